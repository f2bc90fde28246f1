"""Job scripts for schedulers: templates, and what fills them in."""
