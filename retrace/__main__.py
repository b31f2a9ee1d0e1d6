"""`python -m retrace` is the command `retrace`."""

from retrace.cli.app import main

if __name__ == "__main__":
    main()
