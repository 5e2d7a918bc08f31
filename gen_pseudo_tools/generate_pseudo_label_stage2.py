"""Write the pseudo-labels of round 2 from exp_pseudo_stage1: the same as `nightcrawler label 2`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from _start import start

if __name__ == "__main__":
    start("label", __file__, "2")
