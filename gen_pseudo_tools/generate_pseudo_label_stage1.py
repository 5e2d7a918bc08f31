"""Pseudo-labels of round 1, from the BatchNorm-adapted models (exp_adapt_bn)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from nightcrawler.pseudo.command import label_stage
from nightcrawler.utils.cli import run

ROOT = Path(__file__).resolve().parent.parent


def main(argv: Sequence[str]) -> int:
    """Write data/pseudo/stage1.csv."""
    return label_stage(1, argv, ROOT)


if __name__ == "__main__":
    sys.exit(run(main))
