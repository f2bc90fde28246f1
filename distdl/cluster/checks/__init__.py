"""The checks of `distdl doctor`, a file each: of this process (`check(request)`), or of ranks (`check(report)`)."""
