"""Write the list files of a data set, or motions for skeleton models."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightcrawler.cli.prepare_motions import (
    add_figure_options,
    add_motion_options,
    prepare_figures,
    prepare_motions,
)
from nightcrawler.utils.command_line import add_task, make_parser
from nightcrawler.utils.errors import UserError

if TYPE_CHECKING:
    from nightcrawler.prepare.lists import ListPlan
    from nightcrawler.prepare.published import OfficialList

EXAMPLES = """\
  {command} ug2 --root data --official-lists ~/Downloads/ug2_lists --dry-run
  {command} arid --root data
  {command} tree ~/videos --dark ~/night --out data/mine --val-fraction 0.1
  {command} figures --out data/figures
  {command} motions table.csv --recordings ~/cmu --out data/people

DATASET.md shows where the videos go. An existing list that differs is only replaced with
--force."""
CHANGE_WORDS = {
    "new": "to be written",
    "same": "is up to date",
    "differs": "differs from the existing file",
}


def parse(argv: Sequence[str]) -> Any:
    """Parse the command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    tasks = parser.add_subparsers(
        dest="task", required=True, metavar="ug2 | arid | tree | motions | figures"
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--dry-run", action="store_true", help="print what would be written, write nothing"
    )
    common.add_argument("--force", action="store_true", help="replace existing lists that differ")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    helps = {
        "ug2": "lists of UG2+ 2022 track 2 (and of ARID, if its videos are there)",
        "arid": "lists of ARID v1.0 or v1.5, with the v1.0 splits",
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
            help="folder of the lists that the data set's authors publish (default: below --root)",
        )
    add_tree_options(
        add_task(
            tasks,
            "tree",
            "lists of your own videos: class folders of bright clips, and unlabelled dark clips",
            EXAMPLES,
            [common],
        )
    )
    debug = argparse.ArgumentParser(add_help=False)
    debug.add_argument("--debug", action="store_true", help="show the traceback of an error")
    text = "motions of recorded people, from which skeleton models learn"
    add_motion_options(add_task(tasks, "motions", text, EXAMPLES, [debug]))
    text = "motions of synthetic figures, without rendering"
    add_figure_options(add_task(tasks, "figures", text, EXAMPLES, [debug]))
    return parser.parse_args(argv)


def add_tree_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command `tree`."""
    parser.add_argument(
        "source", type=Path, metavar="SRC", help="folder of class folders of bright clips"
    )
    parser.add_argument("--dark", type=Path, metavar="DIR", help="folder of dark clips")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="data folder to create"
    )
    parser.add_argument(
        "--val-fraction",
        type=float,
        default=0.1,
        metavar="X",
        help="share of each class that is kept for validation (default 0.1)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the validation split (default 0)"
    )
    parser.add_argument(
        "--copy",
        action="store_true",
        help="copy the videos, also those behind links, instead of linking their folders",
    )
    parser.add_argument(
        "--recordings",
        default="name",
        metavar="name|clip|FILE",
        help="clips of one recording are never in both training and validation. name (default): "
        "the recording is the name without its last number; clip: each clip is one; FILE: a table "
        "of path,recording rows",
    )


def read_official_lists(arguments: Any, names: Sequence[str]) -> dict[str, OfficialList]:
    """Read the published lists that can be found.

    Args:
        arguments: of the command line.
        names: file names to look for.

    Returns:
        File name to list.

    Raises:
        UserError: if `--official-lists` was given and holds none of them.
    """
    from nightcrawler.prepare.published import find_lists, read_arid_list, read_ug2_list

    folder = arguments.root
    if arguments.official_lists:
        folder = check_folder(arguments.official_lists)
    paths = find_lists(names, folder)
    if arguments.official_lists and not paths:
        raise UserError(f"--official-lists {folder}: none of {', '.join(names)} is in it")
    read = read_ug2_list if arguments.task == "ug2" else read_arid_list
    return {name: read(path) for name, path in paths.items()}


def check_folder(folder: Path) -> Path:
    """Return the folder if it exists.

    Raises:
        UserError: if it does not.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    return folder


def print_plan(plan: ListPlan) -> None:
    """Print row counts and class counts beside the published ones, and the notes."""
    for name, rows in plan.lists.items():
        expected = ""
        if name in plan.counts:
            expected = f" (published: {plan.counts[name]})"
        print(f"{name:<26}{len(rows):>6} rows{expected}")
    if plan.tables:
        print("\nfound / published " + "".join(f"{heading:>18}" for heading in plan.tables))
        for class_name in next(iter(plan.tables.values())):
            line = f"{class_name:<18}"
            for table in plan.tables.values():
                expected_count, found_count = table[class_name]
                # A mismatch is easy to overlook among equal columns of numbers.
                mark = "" if expected_count == found_count else " !"
                line += f"{f'{found_count} / {expected_count}{mark}':>18}"
            print(line)
    for note in plan.notes:
        print(f"\nnote: {note}", end="")
    print()


def apply_plan(
    arguments: Any, root: Path, plan: ListPlan, places: Sequence[tuple[Path, Path]] = ()
) -> None:
    """Link or copy videos and write the lists, or only print the changes with `--dry-run`.

    Args:
        arguments: of the command line.
        root: the data folder.
        plan: lists to write.
        places: origin and destination of each folder or video.
    """
    from nightcrawler.prepare.write import (
        compare_lists,
        link_or_copy,
        refuse_to_replace,
        write_lists,
    )
    from nightcrawler.utils.progress import progress

    # Lists decide which clips are training clips, so none is replaced without a word.
    changes = compare_lists(root, plan)
    for change in changes:
        detail = f" ({change.difference})" if change.difference else ""
        print(f"{change.path}: {CHANGE_WORDS[change.kind]}{detail}")
    if arguments.dry_run:
        print("nothing was written (--dry-run)")
        return
    # Before any video is copied: a refusal must not leave half a dataset behind.
    if not arguments.force:
        refuse_to_replace(changes)
    if places:
        done = link_or_copy(places, arguments.copy)
        for _ in progress(done, len(places), "copy", 100, enabled=arguments.copy):
            pass
    print(f"{write_lists(changes)} lists written")


def prepare_published(arguments: Any) -> None:
    """Write the lists of UG2+ or ARID."""
    from nightcrawler.prepare import published
    from nightcrawler.prepare.folders import scan_folder
    from nightcrawler.prepare.lists import BRIGHT_FOLDER, DARK_FOLDER, DRY_FOLDER, TEST_FOLDER
    from nightcrawler.prepare.published_lists import plan_arid, plan_ug2

    root = check_folder(arguments.root)
    if arguments.task == "arid":
        lists = read_official_lists(arguments, published.ARID_LISTS)
        plan = plan_arid(scan_folder(root / DARK_FOLDER), lists)
    else:
        names = (published.LABELLED_LIST, published.DRY_RUN_LIST, published.DARK_LIST)
        folders = {}
        for name in (BRIGHT_FOLDER, DRY_FOLDER, DARK_FOLDER, TEST_FOLDER):
            folders[name] = scan_folder(root / name)
        plan = plan_ug2(folders, read_official_lists(arguments, names))
    print_plan(plan)
    apply_plan(arguments, root, plan)


def prepare_tree(arguments: Any) -> None:
    """Write the lists of the user's own videos, and link or copy the videos."""
    import json

    from nightcrawler.prepare.folders import scan_folder
    from nightcrawler.prepare.lists import plan_tree
    from nightcrawler.prepare.recordings import recording_rule
    from nightcrawler.prepare.write import (
        check_places,
        files_to_copy,
        folders_to_link,
        refuse_nested,
        refuse_outdated_validation,
    )

    source = check_folder(arguments.source)
    dark = arguments.dark
    # Without dark clips the lists still train and test, but nothing can be adapted.
    dark_videos = None
    if dark is not None:
        dark_videos = scan_folder(check_folder(dark), arguments.copy)
    check_tree_arguments(arguments)
    refuse_nested(source, dark, arguments.out, ("SRC", "--dark", "--out"))
    tree = plan_tree(
        scan_folder(source, arguments.copy),
        dark_videos,
        arguments.val_fraction,
        arguments.seed,
        recording_rule(arguments.recordings),
    )
    choose_places = files_to_copy if arguments.copy else folders_to_link
    places = choose_places(tree, source, dark, arguments.out)
    check_places(places, arguments.copy)
    print_plan(tree.plan)
    refuse_outdated_validation(arguments.out, tree.plan)
    kind = "copies" if arguments.copy else "links"
    origin, place = places[0]
    print(f"{kind}: {len(places)}, the first: {place} of {origin}\n")
    apply_plan(arguments, arguments.out, tree.plan, places)
    # JSON lists are YAML lists, and quote names with commas or colons.
    names = json.dumps(tree.classes, ensure_ascii=False)
    print("\nfor the experiment's config.yaml:")
    print(f"MODEL: {{NUM_CLASSES: {len(tree.classes)}, CLASS_NAMES: {names}}}")


def check_tree_arguments(arguments: Any) -> None:
    """Refuse a share outside [0, 1) and a negative seed.

    Raises:
        UserError: naming the option.
    """
    if not 0 <= arguments.val_fraction < 1:
        raise UserError(
            f"--val-fraction {arguments.val_fraction}: expected a number from 0 to below 1"
        )
    if arguments.seed < 0:
        raise UserError(f"--seed {arguments.seed}: expected 0 or more")


def main(argv: Sequence[str]) -> int:
    """Plan the lists, compare them with the existing ones, and write them."""
    arguments = parse(argv)
    if arguments.task == "motions":
        return prepare_motions(arguments)
    if arguments.task == "figures":
        return prepare_figures(arguments)
    if arguments.task == "tree":
        prepare_tree(arguments)
    else:
        prepare_published(arguments)
    return 0
