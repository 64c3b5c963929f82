"""The `surgery` command: parsing, printing and exit codes. The package `surgery` does the work.

Modules that define options import nothing that imports torch. Commands import the rest inside their functions: help,
completion and mistakes in the options answer at once, and loading torch takes seconds.
"""
