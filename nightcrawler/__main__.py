"""Run the command line: `python -m nightcrawler COMMAND ...`."""

import sys

from nightcrawler.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
