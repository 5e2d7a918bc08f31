"""Accuracy of results files, with 95 % intervals and chance; hidden labels may come from a list file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightcrawler.utils.cli import make_parser, run
from nightcrawler.utils.errors import UserError

EXAMPLES = """\
  python tools/score.py exp_adapt_bn/uniformer_b32_k600/arid*.pkl
  python tools/score.py --truth data/synthetic/truth/test.csv exp_*/*/testx*.pkl"""


def parse(argv: Sequence[str]) -> Any:
    """The command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument("results", nargs="+", type=Path, metavar="PKL", help="results files of test.sh")
    parser.add_argument("--truth", type=Path, metavar="CSV", help="path,label rows for videos without a label")
    return parser.parse_args(argv)


def read_truth(path: Path) -> dict[str, int]:
    """Name to label of a `path,label` file.

    Raises:
        UserError: if a row is not a name and a whole number.
    """
    truth = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    for row, line in enumerate(lines, start=1):
        name, _, label = line.rpartition(",")
        if not name or not label.strip().lstrip("-").isdigit():
            raise UserError(f"{path}: row {row} is {line!r}, expected path,label")
        truth[name] = int(label)
    return truth


def main(argv: Sequence[str]) -> int:
    """Print a line a file."""
    arguments = parse(argv)
    from nightcrawler.engine.tester import describe
    from nightcrawler.pseudo.predictions import load_predictions

    truth = read_truth(arguments.truth) if arguments.truth else {}
    for path in arguments.results:
        predictions = load_predictions(path)
        hidden = [truth.get(name, -1) for name in predictions.names]
        for row, label in enumerate(hidden):
            if predictions.labels[row] < 0:
                predictions.labels[row] = label
        stamp = f"seed {predictions.meta.get('seed', '?')}, {predictions.meta.get('labels', 'unknown use of labels')}"
        print(f"{path}: {describe(predictions)} ({stamp})")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
