"""One module for each command: its options, its help, and the call that does it."""
