"""Print the accuracy of results files with 95 % intervals and chance.

Hidden labels may come from a list file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nightcrawler.utils.command_line import make_parser
from nightcrawler.utils.errors import UserError

EXAMPLES = """\
  {command} exp_adapt_bn/uniformer_b32_k600/arid*.npz
  {command} --truth data/synthetic/truth/test.csv exp_*/*/testx*.npz"""


def parse(argv: Sequence[str]) -> Any:
    """Parse the command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="results files of test.sh, or submissions (arid_pred.csv)",
    )
    parser.add_argument(
        "--truth", type=Path, metavar="CSV", help="path,label rows for videos without a label"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Print one line per file."""
    arguments = parse(argv)
    # Imported late, so that --help does not wait for PyTorch.
    from nightcrawler.engine.tester import describe
    from nightcrawler.pseudo.labels import read_labels
    from nightcrawler.pseudo.predictions import add_labels, read_results

    truth = read_labels(arguments.truth) if arguments.truth else {}
    for path in arguments.results:
        if path.suffix == ".csv":
            print(f"{path}: {describe_submission(path, truth)}")
            continue
        predictions = read_results(path)
        if truth and truth.keys().isdisjoint(predictions.names):
            raise UserError(
                f"{arguments.truth}: none of its names is in the results {path}: it names "
                f"'{next(iter(truth))}', they name '{next(iter(predictions.names), '(none)')}'"
            )
        add_labels(predictions, truth)
        seed = predictions.meta.get("seed", "?")
        # An accuracy is only comparable to others of the same use of dark labels, so it is shown.
        labels = predictions.meta.get("labels", "unknown use of labels")
        print(f"{path}: {describe(predictions)} (seed {seed}, {labels})")
    return 0


def describe_submission(path: Path, truth: Mapping[str, int]) -> str:
    """Return one line with the accuracy of a submission, whose videos have no labels themselves.

    Args:
        path: the submission.
        truth: name to label.

    Raises:
        UserError: if it is bad, no video of it has a known label, or one has a label of no class.
    """
    from nightcrawler.engine.meters import wilson_interval
    from nightcrawler.pseudo.results_metadata import read_metadata
    from nightcrawler.pseudo.submission import read_submission

    submission = read_submission(path)
    about = read_metadata(path)
    # A file of plain numbers, without its description, does not tell how many classes there are.
    num_classes = len(about.get("classes", ()))
    if submission.probs is not None:
        num_classes = submission.probs.shape[1]
    right = []
    for name, label in zip(submission.names, submission.labels.tolist(), strict=True):
        known = truth.get(name, -1)
        if num_classes and known >= num_classes:
            raise UserError(f"'{name}': true label {known}, expected 0..{num_classes - 1}")
        if known >= 0:
            right.append(known == label)
    if not right:
        raise UserError(f"{path}: a submission has no labels: --truth must name its videos")
    low, high = wilson_interval(sum(right), len(right))
    return (
        f"top-1 {100 * sum(right) / len(right):.2f} % (95 % interval {100 * low:.1f} to "
        f"{100 * high:.1f}) of {len(right)} videos ({about['labels']})"
    )
