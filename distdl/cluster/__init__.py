"""Starting jobs, and finding out what is wrong with an installation."""
