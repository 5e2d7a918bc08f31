"""Write all list files from what was downloaded, or from one's own videos; counts are held against the published."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightcrawler.utils.cli import add_task, make_parser
from nightcrawler.utils.errors import UserError

if TYPE_CHECKING:
    from nightcrawler.prepare.lists import ListPlan
    from nightcrawler.prepare.published import OfficialList

EXAMPLES = """\
  {command} ug2 --root data --official-lists ~/Downloads/ug2_lists --dry-run
  {command} arid --root data
  {command} tree ~/videos --dark ~/night --out data/mine --val-fraction 0.1

DATASET.md shows where the videos go. A list that is there and differs is only replaced with --force."""


def parse(argv: Sequence[str]) -> Any:
    """The command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    tasks = parser.add_subparsers(dest="task", required=True, metavar="ug2 | arid | tree")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--dry-run", action="store_true", help="only say what would be written")
    common.add_argument("--force", action="store_true", help="replace lists that differ")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    helps = {
        "ug2": "UG2+ 2022 track 2 (and ARID, if it is there)",
        "arid": "ARID v1.0 or v1.5, with its v1.0 splits",
    }
    for task, text in helps.items():
        sub = add_task(tasks, task, text, EXAMPLES, [common])
        sub.add_argument(
            "--root",
            type=Path,
            required=True,
            metavar="DIR",
            help="data folder, laid out as in DATASET.md",
        )
        sub.add_argument(
            "--official-lists",
            type=Path,
            metavar="DIR",
            help="folder of the makers' own lists (default: below --root)",
        )
    text = "one's own videos: class folders of bright clips, and dark ones without labels"
    sub = add_task(tasks, "tree", text, EXAMPLES, [common])
    sub.add_argument(
        "source", type=Path, metavar="SRC", help="folder of class folders of bright clips"
    )
    sub.add_argument("--dark", type=Path, metavar="DIR", help="folder of dark clips")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="data folder to make")
    sub.add_argument(
        "--val-fraction", type=float, default=0.1, metavar="X", help="for validation (default 0.1)"
    )
    sub.add_argument("--seed", type=int, default=0, help="of the choice for validation (default 0)")
    sub.add_argument(
        "--copy", action="store_true", help="copy the videos instead of linking their folders"
    )
    return parser.parse_args(argv)


def official_lists(arguments: Any, names: Sequence[str]) -> dict[str, OfficialList]:
    """The makers' lists that are there, by file name.

    Raises:
        UserError: if a folder was given and none is in it.
    """
    from nightcrawler.prepare.published import find_lists, read_arid_list, read_ug2_list

    folder = existing(arguments.official_lists) if arguments.official_lists else arguments.root
    paths = find_lists(names, folder)
    if arguments.official_lists and not paths:
        raise UserError(f"--official-lists {folder}: none of {', '.join(names)} is in it")
    read = read_ug2_list if arguments.task == "ug2" else read_arid_list
    return {name: read(path) for name, path in paths.items()}


def existing(folder: Path) -> Path:
    """The folder.

    Raises:
        UserError: if it is none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    return folder


def show(plan: ListPlan) -> None:
    """Print counts beside the published ones, and the notes."""
    for name, rows in plan.lists.items():
        expected = f" (published: {plan.counts[name]})" if name in plan.counts else ""
        print(f"{name:<26}{len(rows):>6} rows{expected}")
    if plan.tables:
        print("\nfound / published " + "".join(f"{heading:>18}" for heading in plan.tables))
        for name in next(iter(plan.tables.values())):
            cells = [f"{table[name][1]} / {table[name][0]}" for table in plan.tables.values()]
            marks = [
                "" if table[name][0] == table[name][1] else " !" for table in plan.tables.values()
            ]
            print(
                f"{name:<18}"
                + "".join(f"{cell + mark:>18}" for cell, mark in zip(cells, marks, strict=True))
            )
    print("".join(f"\nnote: {note}" for note in plan.notes))


def finish(
    arguments: Any, root: Path, plan: ListPlan, pairs: Sequence[tuple[Path, Path]] = ()
) -> None:
    """Put videos in place and write the lists, or say what would be written."""
    from nightcrawler.prepare.write import compare, put_in_place, refuse_to_replace, write_lists
    from nightcrawler.utils.progress import progress

    changes = compare(root, plan)
    words = {
        "new": "to be written",
        "same": "is there already",
        "differs": "differs from the one that is there",
    }
    for change in changes:
        print(f"{change.path}: {words[change.kind]}{f' ({change.what})' if change.what else ''}")
    if arguments.dry_run:
        print("nothing was written (--dry-run)")
        return
    if not arguments.force:
        refuse_to_replace(changes)
    if pairs:
        for _ in progress(
            put_in_place(pairs, arguments.copy), len(pairs), "copy", 100, enabled=arguments.copy
        ):
            pass
    print(f"{write_lists(changes)} lists written")


def prepare_published(arguments: Any) -> None:
    """The lists of UG2+ or ARID."""
    from nightcrawler.prepare import published
    from nightcrawler.prepare.folders import scan_folder
    from nightcrawler.prepare.lists import (
        BRIGHT_FOLDER,
        DARK_FOLDER,
        DRY_FOLDER,
        TEST_FOLDER,
        plan_arid,
        plan_ug2,
    )

    root = existing(arguments.root)
    if arguments.task == "arid":
        plan = plan_arid(
            scan_folder(root / DARK_FOLDER), official_lists(arguments, published.ARID_LISTS)
        )
    else:
        names = (published.LABELLED_LIST, published.DRY_RUN_LIST, published.DARK_LIST)
        folders = {
            name: scan_folder(root / name)
            for name in (BRIGHT_FOLDER, DRY_FOLDER, DARK_FOLDER, TEST_FOLDER)
        }
        plan = plan_ug2(folders, official_lists(arguments, names))
    show(plan)
    finish(arguments, root, plan)


def prepare_tree(arguments: Any) -> None:
    """Lists and folders of one's own videos."""
    import json

    from nightcrawler.prepare.folders import scan_folder
    from nightcrawler.prepare.lists import plan_tree
    from nightcrawler.prepare.write import check_places, tree_files, tree_links

    source, dark, out = (
        existing(arguments.source),
        arguments.dark and existing(arguments.dark),
        arguments.out,
    )
    check_tree_arguments(arguments)
    tree = plan_tree(
        scan_folder(source), dark and scan_folder(dark), arguments.val_fraction, arguments.seed
    )
    pairs = (tree_files if arguments.copy else tree_links)(tree, source, dark, out)
    check_places(pairs, arguments.copy)
    show(tree.plan)
    print(
        f"{'copies' if arguments.copy else 'links'}: {len(pairs)}, the first: {pairs[0][1]} of {pairs[0][0]}\n"
    )
    finish(arguments, out, tree.plan, pairs)
    names = json.dumps(tree.classes, ensure_ascii=False)
    print(
        f"\nfor the experiment's config.yaml:\nMODEL: {{NUM_CLASSES: {len(tree.classes)}, CLASS_NAMES: {names}}}"
    )


def check_tree_arguments(arguments: Any) -> None:
    """Refuse a share that is none, a negative seed, and folders inside one another.

    Raises:
        UserError: naming the option.
    """
    if not 0 <= arguments.val_fraction < 1:
        raise UserError(
            f"--val-fraction {arguments.val_fraction}: expected a number from 0 to below 1"
        )
    if arguments.seed < 0:
        raise UserError(f"--seed {arguments.seed}: expected 0 or more")
    source, dark, out = arguments.source, arguments.dark, arguments.out
    inside = [
        ("--dark", dark, source),
        ("--out", out, source),
        ("SRC", source, dark),
        ("--out", out, dark),
    ]
    for option, folder, other in inside:
        if folder and other and folder.resolve().is_relative_to(other.resolve()):
            holds = "clips of classes" if other is source else "clips without labels"
            raise UserError(f"{option} {folder}: is inside {other}, all of which are {holds}")


def main(argv: Sequence[str]) -> int:
    """Build, compare, write."""
    arguments = parse(argv)
    (prepare_tree if arguments.task == "tree" else prepare_published)(arguments)
    return 0
