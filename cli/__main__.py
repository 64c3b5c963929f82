"""`python -m surgery_cli`, the same as `surgery`."""

from surgery_cli.main import main

main()
