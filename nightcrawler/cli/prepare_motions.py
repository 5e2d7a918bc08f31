"""Write motions for skeleton models: of recorded people, or of synthetic figures."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightcrawler.utils.errors import UserError

if TYPE_CHECKING:
    from nightcrawler.prepare.motions import Span

LIST_NAME = "motions.csv"
SHOWN_FAULTS = 5


def add_motion_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `prepare motions`."""
    parser.add_argument(
        "table",
        type=Path,
        metavar="TABLE",
        help="CSV of recording,first,last,class (frame numbers, or empty for the whole recording), "
        "or the labels file of UTKinect-Action3D",
    )
    parser.add_argument(
        "--recordings",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of .bvh, .amc with .asf, or joint .txt files",
    )
    _add_common(parser)
    parser.add_argument(
        "--rename",
        metavar="A=B,...",
        help="classes by the table's names, such as walk=Walk,sitDown=Sit; other rows are left out",
    )


def add_figure_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `prepare figures`."""
    _add_common(parser)
    parser.add_argument(
        "--count", type=int, default=11000, metavar="N", help="motions in all (default 11000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all draws (default 0)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes (default 2)")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help=f"folder of the motions and their list, {LIST_NAME}",
    )
    parser.add_argument(
        "--classes",
        metavar="A,B,...",
        help="names of the classes in index order (default: the eleven of UG2+)",
    )


def _classes_of(arguments: Any) -> list[str]:
    from nightcrawler.config.schema.model import CLASS_NAMES

    return arguments.classes.split(",") if arguments.classes else list(CLASS_NAMES)


def _renaming_of(text: str) -> dict[str, str]:
    names = {}
    for pair in filter(None, text.split(",")):
        old, found, new = pair.partition("=")
        if not (found and old and new):
            raise UserError(f"--rename '{pair}': expected the table's name, =, the class")
        names[old] = new
    return names


def _check_new(out: Path) -> None:
    """Refuse a folder that holds a list already: motions of two sets must not mix."""
    if (out / LIST_NAME).exists():
        raise UserError(f"--out {out}: holds {LIST_NAME} already; give a new folder")


def prepare_motions(arguments: Any) -> int:
    """Cut recordings by a table, write motions and their list, and name rows that gave none."""
    from nightcrawler.prepare.motions import (
        read_table,
        refuse_repeats,
        rename_actions,
        write_list,
        write_motions,
    )
    from nightcrawler.utils.progress import progress

    _check_new(arguments.out)
    classes = _classes_of(arguments)
    read = read_table(arguments.table)
    spans = rename_actions(read, _renaming_of(arguments.rename or ""))
    refuse_repeats(arguments.table, spans)
    written = write_motions(spans, arguments.recordings, arguments.out, classes)
    rows = []
    faults = []
    for span, fault in progress(written, len(spans), "motions", 100):
        if fault:
            faults.append(fault)
        else:
            rows.append((span.name, classes.index(span.action)))
    if rows:
        write_list(arguments.out / LIST_NAME, rows)
    _print_outcome(arguments, read, spans, len(rows), faults)
    return 0 if rows else 1


def _print_outcome(
    arguments: Any, read: list[Span], spans: list[Span], written: int, faults: list[str]
) -> None:
    print(f"{written} motions of {len(spans)} rows; {len(read) - len(spans)} rows of other classes")
    for fault in faults[:SHOWN_FAULTS]:
        print(f"left out: {fault}")
    if len(faults) > SHOWN_FAULTS:
        print(f"left out: {len(faults) - SHOWN_FAULTS} more")
    if written:
        print(f"list: {arguments.out / LIST_NAME}")


def prepare_figures(arguments: Any) -> int:
    """Draw motions of synthetic figures, and write them and their list."""
    from nightcrawler.prepare.motions import write_list
    from nightcrawler.synthetic.actions import ACTIONS
    from nightcrawler.synthetic.motions import PART, write_motions
    from nightcrawler.utils.progress import progress

    for option, least in (("count", 1), ("seed", 0), ("jobs", 1)):
        value = getattr(arguments, option)
        if value < least:
            raise UserError(f"--{option} {value}: expected {least} or more")
    _check_new(arguments.out)
    classes = _classes_of(arguments)
    unknown = sorted(set(classes) - set(ACTIONS))
    if unknown:
        raise UserError(f"--classes {unknown[0]}: figures do {', '.join(ACTIONS)}")
    written = write_motions(arguments.out, classes, arguments.count, arguments.seed, arguments.jobs)
    rows = []
    for part in progress(written, math.ceil(arguments.count / PART), "parts of motions", 4):
        rows += part
    write_list(arguments.out / LIST_NAME, rows)
    print(f"{len(rows)} motions\nlist: {arguments.out / LIST_NAME}")
    return 0
