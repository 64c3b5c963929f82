"""The `surgery` command: parsing, printing and exit codes. The package `surgery` does the work."""
