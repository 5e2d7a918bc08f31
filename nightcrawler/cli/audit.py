"""Audit videos of folders or lists: decoding, length, size, light, noise, duplicates, leakage."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightcrawler.utils.command_line import add_max_pixels, make_parser
from nightcrawler.utils.errors import UserError

if TYPE_CHECKING:
    from nightcrawler.prepare.measure import Measurement
    from nightcrawler.prepare.sources import AuditSource

EXIT_BAD_VIDEOS = 3
MAX_SHOWN = 5
EXAMPLES = """\
  {command} data/labeled_train/Train --out audit
  {command} data/val_dry.csv data/test.csv --out audit --jobs 8

DIR/audit.csv has one row per file, DIR/audit.html is a page with tables, histograms and
thumbnails. An audit that was stopped continues with the same command: files that kept their size
and modification time are not read again.

exit codes: 0 success, 2 an error that the last line names, 3 some videos cannot be used"""


def default_jobs() -> int:
    """Return the number of CPU cores that this process may use."""
    # A container or job may have fewer cores than the machine.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parse(argv: Sequence[str]) -> Any:
    """Parse the command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "given",
        nargs="+",
        type=Path,
        metavar="FOLDER|LIST.csv",
        help="folders of videos, or lists of path,label rows",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of audit.csv and audit.html"
    )
    jobs = default_jobs()
    parser.add_argument(
        "--jobs", type=int, default=jobs, metavar="N", help=f"processes (default {jobs})"
    )
    add_max_pixels(parser, "4096 x 4096")
    return parser.parse_args(argv)


def print_findings(sources: Sequence[AuditSource], rows: Sequence[Measurement]) -> int:
    """Print bad files, duplicates and leakage, and return the number of bad files."""
    from nightcrawler.prepare.duplicates import find_leakage, group_duplicates

    bad = [row for row in rows if row.status != "ok"]
    num_damaged = sum(row.status == "damaged" for row in bad)
    damaged = f", {num_damaged} of them damaged" if num_damaged else ""
    print(f"{len(rows)} files: {len(rows) - len(bad)} ok, {len(bad)} bad{damaged}")
    for row in bad[:MAX_SHOWN]:
        print(f"  {row.path}: {row.cause}")
    if len(bad) > MAX_SHOWN:
        print(f"  and {len(bad) - MAX_SHOWN} more")
    # Equal content under two names inflates a split; across splits it leaks labels.
    groups = group_duplicates(rows)
    if groups:
        names = ", ".join(row.path for row in groups[0][:MAX_SHOWN])
        print(f"{len(groups)} groups of files with equal content, the first: {names}")
    for overlap in find_leakage(sources, rows):
        num_clips = overlap.same_file + overlap.copies
        kinds = f"{overlap.same_file} the same file, {overlap.copies} copies"
        print(f"leakage: {overlap.first} and {overlap.second} share {num_clips} clips ({kinds})")
    return len(bad)


def main(argv: Sequence[str]) -> int:
    """Measure all files, write the table and the page, and print the findings."""
    arguments = parse(argv)
    if arguments.jobs < 1:
        raise UserError(f"--jobs {arguments.jobs}: expected at least 1")
    # Imported late, so that --help does not wait for PyAV and numpy.
    from nightcrawler.data.video.integrity.limits import limits_of_pixels
    from nightcrawler.prepare.audit import COLUMNS, CSV_NAME, PAGE_MARK, PAGE_NAME, audit
    from nightcrawler.prepare.measure import measure
    from nightcrawler.prepare.sources import read_source
    from nightcrawler.utils.io import atomic_write
    from nightcrawler.utils.outputs import check_targets, refuse_other_file
    from nightcrawler.utils.progress import progress

    def show(rows: Iterable[Measurement], total: int) -> Iterable[Measurement]:
        return progress(rows, total, "audit")

    # An unwritable folder must be found before hours of decoding.
    targets = [arguments.out / name for name in (CSV_NAME, PAGE_NAME)]
    check_targets(targets, sources=arguments.given)
    # Tables of earlier versions have other columns, but begin with these.
    for target, mark in zip(targets, (",".join(COLUMNS[:2]), PAGE_MARK), strict=True):
        refuse_other_file(target, mark, "an audit")
    # The same folder given twice would report every clip as leakage.
    sources = [read_source(given) for given in dict.fromkeys(arguments.given)]
    for source in sources:
        check_targets(targets, sources=source.paths)
    limits = limits_of_pixels(arguments.max_pixels)
    function = functools.partial(measure, limits=limits)
    rows = audit(sources, arguments.out, arguments.jobs, show, function)
    # matplotlib is imported only now: the measuring processes are forked before and stay small.
    from nightcrawler.prepare.page import build_page

    with atomic_write(arguments.out / PAGE_NAME, "w") as file:
        file.write(build_page(sources, rows, limits))
    num_bad = print_findings(sources, rows)
    print(f"{arguments.out / CSV_NAME}, {arguments.out / PAGE_NAME}")
    return EXIT_BAD_VIDEOS if num_bad else 0
