"""Report of a run of the chain: one page of HTML and its figures as JSON; the summary of one run or several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightcrawler.utils.cli import make_parser
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.project import project_root

EXAMPLES = """\
  {command} demo/run
  {command} demo/run --truth test=data/synthetic/truth/test.csv --out report.html --table
  {command} runs/seed0 runs/seed1 runs/seed2 --table

A run is the --out of tools/run_pipeline.py (or runs/RECIPE), finished or not, or the report.json of one. True classes
that are hidden from the chain come from --truth, or DATA/truth/*.csv; they are measured with, and choose nothing."""


def parse(argv: Sequence[str]) -> Any:
    """The command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="folder with pipeline.json, or a report.json",
    )
    parser.add_argument(
        "--truth",
        action="append",
        default=[],
        metavar="SPLIT=CSV",
        help="path,label rows of a split (repeatable)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="HTML", help="page of one run (default: RUN/report.html)"
    )
    parser.add_argument(
        "--table", action="store_true", help="print the summary (of several runs it always is)"
    )
    return parser.parse_args(argv)


def read_truths(texts: Sequence[str]) -> dict[str, Path]:
    """Split to file of `SPLIT=CSV`.

    Raises:
        UserError: if one is something else, or there is no such file.
    """
    found = {}
    for text in texts:
        split, equals, path = text.partition("=")
        if not split or not equals:
            raise UserError(
                f"--truth {text!r}: expected SPLIT=CSV such as test=data/truth/test.csv"
            )
        if not Path(path).is_file():
            raise UserError(f"--truth {text!r}: no such file")
        found[split] = Path(path).resolve()
    return found


def main(argv: Sequence[str]) -> int:
    """Write the page of one run; print the summary of all."""
    arguments = parse(argv)
    truth = read_truths(arguments.truth)
    single = len(arguments.runs) == 1 and arguments.runs[0].is_dir()
    if arguments.out and not single:
        raise UserError(
            "--out: a page is made of the folder of one run; of several runs there is a table"
        )
    places = [path.resolve() for path in arguments.runs]
    if len(set(places)) < len(places):
        raise UserError("a run is given twice: a mean over it would count it twice")
    if truth and any(path.is_file() for path in arguments.runs):
        raise UserError("--truth: a report.json is counted already; give the run's folder")
    from nightcrawler.report.page import read_figures, write_report
    from nightcrawler.report.table import summary

    page = None
    if single:
        page = arguments.out or arguments.runs[0] / "report.html"
        runs = [write_report(arguments.runs[0], project_root(), truth, page)]
    else:
        runs = [read_figures(path, project_root(), truth) for path in arguments.runs]
    if arguments.table or not single:
        print("\n".join(summary(runs)))
    if page is not None:
        print(
            f"report: {page} ({page.stat().st_size >> 10} KiB), {page.with_suffix('.json').name} beside it"
        )
    return 0
