"""Report on runs of the chain: an HTML page and a JSON file of one, a text table of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightcrawler.utils.command_line import make_parser
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.project import project_root

EXAMPLES = """\
  {command} demo/run
  {command} demo/run --truth test=data/synthetic/truth/test.csv --out page.html
  {command} runs/seed0 runs/seed1 runs/seed2 --table

RUN is the --out of tools/run_pipeline.py (or runs/RECIPE), finished or not, or the report.json of
one. True classes that are hidden from the chain come from --truth or DATA/truth/*.csv. They are
only used to measure accuracy and choose nothing."""


def parse(argv: Sequence[str]) -> Any:
    """Parse the command line."""
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
        help="file of path,label rows with the true classes of a split (repeatable)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="HTML", help="page of one run (default: RUN/report.html)"
    )
    parser.add_argument(
        "--table",
        action="store_true",
        help="print the table of results (always printed for several runs)",
    )
    return parser.parse_args(argv)


def read_truths(texts: Sequence[str]) -> dict[str, Path]:
    """Parse the values of `--truth`.

    Args:
        texts: values of the form `SPLIT=CSV`.

    Returns:
        Split to file.

    Raises:
        UserError: if a value has another form, or its file does not exist.
    """
    truth_files = {}
    for text in texts:
        split, equals, path = text.partition("=")
        if not split or not equals:
            raise UserError(
                f"--truth {text!r}: expected SPLIT=CSV such as test=data/truth/test.csv"
            )
        if not Path(path).is_file():
            raise UserError(f"--truth {text!r}: no such file")
        truth_files[split] = Path(path).resolve()
    return truth_files


def check_arguments(arguments: Any, is_single: bool) -> None:
    """Refuse combinations of options that cannot work.

    Raises:
        UserError: naming the option and the remedy.
    """
    if arguments.out and not is_single:
        raise UserError(
            "--out: a page is made of the folder of one run; several runs give a table instead"
        )
    places = [path.resolve() for path in arguments.runs]
    if len(set(places)) < len(places):
        raise UserError("a run is given twice and would be counted twice: give each RUN once")
    if arguments.truth and any(path.is_file() for path in arguments.runs):
        raise UserError(
            "--truth: the accuracy in a report.json is final; give the run's folder instead"
        )


def main(argv: Sequence[str]) -> int:
    """Write the page of one run, and print the table of all."""
    arguments = parse(argv)
    truth = read_truths(arguments.truth)
    # A report.json holds figures only; the page needs the files of the run.
    is_single = len(arguments.runs) == 1 and arguments.runs[0].is_dir()
    check_arguments(arguments, is_single)
    # Imported late, so that --help does not wait for torch, pandas and matplotlib.
    from nightcrawler.report.closing import closing_lines
    from nightcrawler.report.page import read_figures, write_report
    from nightcrawler.report.run_folder import RunFolder
    from nightcrawler.report.table import table_lines
    from nightcrawler.utils.outputs import check_targets

    page = None
    if is_single:
        page = arguments.out or arguments.runs[0] / "report.html"
        check_targets([page, page.with_suffix(".json")], sources=truth.values())
        runs = [write_report(arguments.runs[0], project_root(), truth, page)]
    else:
        runs = [read_figures(path, project_root(), truth) for path in arguments.runs]
    if arguments.table or not is_single:
        print("\n".join(table_lines(runs)))
    if page is not None:
        run = RunFolder(arguments.runs[0], project_root())
        for line in closing_lines(runs[0], run):
            print(line)
        size_kib = page.stat().st_size >> 10
        print(f"report: {page} ({size_kib} KiB), {page.with_suffix('.json').name} beside it")
    return 0
