"""`distdl doctor`: says what is wrong with an installation, or with the hosts of a job."""

from __future__ import annotations

import argparse
import sys

HELP = "say what is wrong with this installation, or with the hosts of a job"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("-n", "--ranks", type=int, help="of the job: 2, or as many as the host file has slots")
    parser.add_argument("--hostfile", help="one host a line, with its slots: name:4, or name slots=4")
    parser.add_argument("--remote-shell", default="ssh", help="the command that reaches hosts (ssh)")
    parser.add_argument("--shared", metavar="DIRECTORY", help="that all hosts should see")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print the check-up; 1 if anything fails."""
    from ..cluster.doctor import Request, examine, exit_code, show, to_json
    from ..cluster.hosts import read_hosts

    hosts = [] if options.hostfile is None else read_hosts(options.hostfile)
    ranks = options.ranks if options.ranks is not None else sum(host.slots for host in hosts) or 2
    findings = examine(Request(ranks, hosts, options.remote_shell, options.shared))
    print(to_json(findings) if options.json else show(findings, sys.stdout))
    return exit_code(findings)
