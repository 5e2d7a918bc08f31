"""Pseudo-labels of any round, as a process: `python -m nightcrawler.pipeline.label ROUND [options]`.

The options are those of `gen_pseudo_tools/generate_pseudo_label_stage1.py`, which does the same for round 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from nightcrawler.pseudo.command import label_stage
from nightcrawler.utils.cli import run


def main(argv: Sequence[str]) -> int:
    """Write the pseudo-labels of round `argv[0]`; the current folder is the project's root."""
    return label_stage(int(argv[0]), argv[1:], Path.cwd())


if __name__ == "__main__":
    sys.exit(run(main))
