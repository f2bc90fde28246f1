"""Data sets larger than memory: files that hold some samples each, of which every rank opens few at a time."""
