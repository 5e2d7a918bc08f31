"""Search thresholds, or score pseudo-labels: the same as `nightcrawler thresholds`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from _start import start

if __name__ == "__main__":
    start("thresholds", __file__)
