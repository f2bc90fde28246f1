"""The exit codes of jobs that mean something beside 0 and 1."""

USAGE = 2
"""A wrong command line, as argparse gives it: it would be wrong again."""

REQUEUE = 75
"""The job has left in good order, and can go on later: EX_TEMPFAIL of sysexits.h, which invites to try again."""

INTERRUPTED = 130
"""Ctrl-C, as shells give it."""
