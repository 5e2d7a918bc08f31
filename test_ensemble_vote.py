"""Write the submission of the ensemble vote: the same as `nightcrawler vote`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "tools"))

from _start import start

if __name__ == "__main__":
    start("vote", __file__)
