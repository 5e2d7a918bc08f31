"""Pseudo-labels of round 4, from the models of round 3 (exp_pseudo_stage3)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from nightcrawler.pseudo.command import label_stage
from nightcrawler.utils.cli import run

ROOT = Path(__file__).resolve().parent.parent


def main(argv: Sequence[str]) -> int:
    """Write data/pseudo/stage4.csv."""
    return label_stage(4, argv, ROOT)


if __name__ == "__main__":
    sys.exit(run(main))
