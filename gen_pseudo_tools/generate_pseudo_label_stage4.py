"""Write the pseudo-labels of round 4 from exp_pseudo_stage3: the same as `nightcrawler label 4`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from _start import start

if __name__ == "__main__":
    start("label", __file__, "4")
