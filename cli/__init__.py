"""The `surgery` command: parsing, printing and exit codes. What it does is done by the package `surgery`."""
