"""`python -m retrace` is the command `retrace`."""

from retrace.cli.app import main

main()
