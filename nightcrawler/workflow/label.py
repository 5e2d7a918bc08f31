"""Command line that makes the pseudo-labels of any round.

Its options are those of `gen_pseudo_tools/generate_pseudo_label_stage1.py`, which does the same for
round 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from nightcrawler.pseudo.command import label_stage
from nightcrawler.utils.cli import at_least, make_parser, run

EXAMPLES = """\
  python -m nightcrawler.workflow.label 5 --recipe configs/pseudo/distil.yaml --out distil.csv
  python -m nightcrawler.workflow.label 1 --help"""


def main(argv: Sequence[str]) -> int:
    """Write the pseudo-labels of round `argv[0]`, with the current folder as the project's root."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "round",
        type=at_least(1),
        metavar="ROUND",
        help="round: 1 labels with exp_adapt_bn, 2 with round 1, ...",
    )
    # Only the round is parsed here: `label_stage` has the other options, whose defaults depend on
    # it.
    return label_stage(parser.parse_args(argv[:1]).round, argv[1:], Path.cwd())


if __name__ == "__main__":
    sys.exit(run(main))
