"""What every room needs and none owns: errors, argument checks, random numbers, settings, threads, files."""
