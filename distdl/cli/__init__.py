"""The `distdl` command."""
