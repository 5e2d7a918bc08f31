"""Write the pseudo-labels of a round; `{command} ROUND --help` shows the options."""

from __future__ import annotations

from collections.abc import Sequence

from nightcrawler.pseudo.command import label_stage
from nightcrawler.utils.cli import at_least, invocation, invoked_as, make_parser
from nightcrawler.utils.project import project_root

EXAMPLES = """\
  {command} 5 --recipe configs/pseudo/distil.yaml --out data/pseudo/distil.csv
  {command} 1 --help"""


def main(argv: Sequence[str]) -> int:
    """Write the pseudo-labels of round `argv[0]`."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "round",
        type=at_least(1),
        metavar="ROUND",
        help="1 labels with exp_adapt_bn, 2 with round 1, ...",
    )
    number = parser.parse_args(argv[:1]).round
    # The scripts of single rounds name theirs already; `nightcrawler label` is shown with it.
    program = invocation()
    if not program.endswith(".py"):
        program = f"{program} {number}"
    with invoked_as(program):
        return label_stage(number, argv[1:], project_root())
