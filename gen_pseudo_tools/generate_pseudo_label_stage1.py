"""Write the pseudo-labels of round 1 from exp_adapt_bn: the same as `nightcrawler label 1`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from _start import start

if __name__ == "__main__":
    start("label", __file__, "1")
