"""Run the command line as ``python -m squeezenet``."""

from squeezenet.cli.app import main

if __name__ == "__main__":
    main()
