"""Audit folders or lists of videos: what decodes, length, size, light, noise, gamma, duplicates, leakage."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightcrawler.utils.cli import make_parser
from nightcrawler.utils.errors import UserError

if TYPE_CHECKING:
    from nightcrawler.prepare.audit import Source
    from nightcrawler.prepare.measure import Measurement

EXIT_BAD_VIDEOS = 3
SHOWN = 5
EXAMPLES = """\
  {command} data/labeled_train/Train --out audit
  {command} data/train_label+val_dry.csv data/total_unlabel.csv data/test.csv --out audit --jobs 8

DIR/audit.csv has a row a file, DIR/audit.html is a page with tables, histograms and thumbnails. Stopped at any time,
the same command goes on: files that kept their size and time are not read again.

exit codes: 0 all is well, 2 an error that the line names, 3 some videos cannot be used"""


def parse(argv: Sequence[str]) -> Any:
    """The command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "given", nargs="+", type=Path, metavar="FOLDER|LIST.csv", help="what to audit"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of audit.csv and audit.html"
    )
    jobs = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument(
        "--jobs", type=int, default=jobs, metavar="N", help=f"processes (default {jobs})"
    )
    return parser.parse_args(argv)


def report(sources: Sequence[Source], rows: Sequence[Measurement]) -> int:
    """Print what is wrong, the first few of each kind; returns how many files are bad."""
    from nightcrawler.prepare.audit import duplicates, leakage

    bad = [row for row in rows if row.status != "ok"]
    print(f"{len(rows)} files: {len(rows) - len(bad)} ok, {len(bad)} bad")
    for row in bad[:SHOWN]:
        print(f"  {row.path}: {row.cause}")
    if len(bad) > SHOWN:
        print(f"  and {len(bad) - SHOWN} more")
    groups = duplicates(rows)
    if groups:
        print(
            f"{len(groups)} groups of equal files, the first: {', '.join(row.path for row in groups[0][:SHOWN])}"
        )
    for overlap in leakage(sources, rows):
        shared = f"{overlap.same_file} the same file, {overlap.copies} copies"
        print(
            f"leakage: {overlap.first} and {overlap.second} share {overlap.same_file + overlap.copies} clips ({shared})"
        )
    return len(bad)


def main(argv: Sequence[str]) -> int:
    """Audit, write the page, report."""
    arguments = parse(argv)
    if arguments.jobs < 1:
        raise UserError(f"--jobs {arguments.jobs}: expected at least 1")
    from nightcrawler.prepare.audit import CSV_NAME, PAGE_NAME, audit, read_source
    from nightcrawler.utils.io import atomic_write, check_targets
    from nightcrawler.utils.progress import progress

    def show(rows: Iterable[Measurement], total: int) -> Iterable[Measurement]:
        return progress(rows, total, "audit")

    check_targets([arguments.out / name for name in (CSV_NAME, PAGE_NAME)])
    sources = [read_source(given) for given in dict.fromkeys(arguments.given)]
    rows = audit(sources, arguments.out, arguments.jobs, show)
    # The plotting library is loaded only now: processes are forked before.
    from nightcrawler.prepare.page import build_page

    with atomic_write(arguments.out / PAGE_NAME, "w") as file:
        file.write(build_page(sources, rows))
    num_bad = report(sources, rows)
    print(f"{arguments.out / CSV_NAME}, {arguments.out / PAGE_NAME}")
    return EXIT_BAD_VIDEOS if num_bad else 0
