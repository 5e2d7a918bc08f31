"""List files from what is on disk: which rows, in which order, and why a count is not the published one.

Nothing here reads or writes files: folders come in as names, lists go out as rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nightcrawler.data.splits import DARK_TRAIN, SPLITS
from nightcrawler.prepare import published
from nightcrawler.prepare.folders import Folder
from nightcrawler.prepare.published import CLASSES, SHOWN, ListRow, OfficialList
from nightcrawler.utils.errors import UserError

TRAIN, VAL_DRY, DARK, ARID, TOTAL, TEST = (
    SPLITS[name][0]
    for name in ("train", "val_dry", "dark_unlabel", "arid", "total_unlabel", "test")
)
(DARK_FOLDER,) = DARK_TRAIN
BRIGHT_FOLDER, DRY_FOLDER = SPLITS["train"][1]
(TEST_FOLDER,) = SPLITS["test"][1]
# The published lists of bright clips end their lines with CR LF.
LINE_ENDS = {TRAIN: "\r\n", VAL_DRY: "\r\n"}


@dataclass
class ListPlan:
    """Lists to write, and what there is to say about them.

    Attributes:
        lists: file name below the data folder, to `(name, label)` rows.
        counts: file name to how many rows the published list has.
        tables: a heading to clips of each class, expected and found.
        notes: what was repaired, is missing or was left out, a line each.
    """

    lists: dict[str, list[ListRow]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    tables: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, rows: list[ListRow], expected: int | None = None) -> None:
        """Take a list in; one without rows is only noted."""
        if expected is not None:
            self.counts[name] = expected
        if rows:
            self.lists[name] = rows
        else:
            self.notes.append(f"{name}: not written, none of its videos is there")

    def add_table(self, heading: str, expected: Mapping[str, int], rows: Iterable[ListRow]) -> None:
        """Count the rows of each class beside what is expected."""
        found = Counter(CLASSES[label] for _, label in rows)
        self.tables[heading] = {name: (count, found[name]) for name, count in expected.items()}


def some(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def note_folder(plan: ListPlan, folder: Folder) -> None:
    """Note what of a folder no list can hold."""
    if folder.num_others:
        plan.notes.append(f"{folder.path}: {folder.num_others} files are no videos by their suffix")
    if folder.empty:
        plan.notes.append(f"{folder.path}: folders without a video: {some(folder.empty)}")
    if folder.refused:
        plan.notes.append(f"{folder.path}: left out {len(folder.refused)}: {some(folder.refused)}")


def keep_present(
    plan: ListPlan, list_name: str, rows: Iterable[ListRow], videos: Iterable[str]
) -> list[ListRow]:
    """The rows whose video is there; a video of the same name with another suffix counts.

    Notes what is missing (unless everything is) and what goes by another suffix.
    """
    rows, there = list(rows), set(videos)
    free = there - {name for name, _ in rows}
    by_stem = {_stem(name): name for name in sorted(free, reverse=True)}
    kept: list[ListRow] = []
    missing, renamed = [], []
    for name, label in rows:
        found = name if name in there else by_stem.pop(_stem(name), None)
        if found is None:
            missing.append(name)
        else:
            kept.append((found, label))
            if found != name:
                renamed.append(f"{name} is {found}")
    if missing and kept:
        plan.notes.append(f"{list_name}: missing files: {len(missing)}: {some(missing)}")
    if renamed:
        plan.notes.append(
            f"{list_name}: {len(renamed)} files have another suffix than in the list: {renamed[0]}, ..."
        )
    return kept


def _stem(name: str) -> str:
    stem, _, suffix = name.rpartition(".")
    return stem if stem and "/" not in suffix else name


def _note_unlisted(
    plan: ListPlan, folder: Folder, videos: Iterable[str], rows: Iterable[ListRow]
) -> None:
    listed = {name for name, _ in rows}
    others = [name for name in videos if name not in listed]
    if others:
        plan.notes.append(f"{folder.path}: {len(others)} videos are in no list: {some(others)}")


def plan_ug2(folders: Mapping[str, Folder], official: Mapping[str, OfficialList]) -> ListPlan:
    """The lists of UG2+ 2022 track 2, and of ARID where it is there.

    Args:
        folders: the folders of the layout, by their name below the data folder.
        official: the challenge's lists by file name, those that were found.

    Raises:
        UserError: if nothing can be built, or a dry-run clip's name does not tell its class.
    """
    plan = ListPlan()
    _plan_bright(plan, folders, official)
    dark = _plan_dark(plan, folders[DARK_FOLDER], official.get(published.DARK_LIST))
    _plan_total(plan, dark, _arid_rows(folders[DARK_FOLDER])[0])
    test = [(name, -1) for name in published.numbered(published.NUM_TEST)]
    rows = keep_present(plan, TEST, test, folders[TEST_FOLDER].videos)
    plan.add(TEST, rows, published.NUM_TEST)
    _note_unlisted(plan, folders[TEST_FOLDER], folders[TEST_FOLDER].videos, rows)
    for folder in folders.values():
        note_folder(plan, folder)
    if not plan.lists:
        raise UserError(
            f"no video of UG2+ below {', '.join(str(f.path) for f in folders.values())}; see DATASET.md"
        )
    return plan


def _plan_bright(
    plan: ListPlan, folders: Mapping[str, Folder], official: Mapping[str, OfficialList]
) -> None:
    """The labelled list and the dry-run list; the first ends with the second, as published."""
    train, val = official.get(published.LABELLED_LIST), official.get(published.DRY_RUN_LIST)
    if train is None or val is None:
        lacking = [
            name
            for name in (published.LABELLED_LIST, published.DRY_RUN_LIST)
            if name not in official
        ]
        plan.notes.append(
            f"{TRAIN}, {VAL_DRY}: not built without {' and '.join(lacking)}: give --official-lists DIR"
        )
        return
    for source in (train, val):
        if source.repaired:
            rows = f"{len(source.repaired)} rows repaired ({source.repaired[0]}..{source.repaired[-1]})"
            plan.notes.append(f"{source.path.name}: {rows}: class and name were in one field")
    bright, dry_run = folders[BRIGHT_FOLDER], folders[DRY_FOLDER]
    train_rows = keep_present(plan, TRAIN, train.rows, bright.videos)
    labelled = [(name, published.label_of_hmdb_name(name)) for name, _ in val.rows]
    val_rows = keep_present(plan, VAL_DRY, labelled, dry_run.videos)
    plan.notes.append(
        f"{VAL_DRY}: classes are read from the names (HMDB51), the challenge's list has none"
    )
    _refuse_a_name_in_both(train_rows, val_rows)
    num_train, num_val = sum(published.TRAIN.values()), sum(published.DRY_RUN.values())
    plan.add(TRAIN, train_rows + val_rows, num_train + num_val)
    plan.add(VAL_DRY, val_rows, num_val)
    plan.add_table("bright training", published.TRAIN, train_rows)
    plan.add_table("val_dry", published.DRY_RUN, val_rows)
    _note_unlisted(plan, bright, bright.videos, train_rows)
    _note_unlisted(plan, dry_run, dry_run.videos, val_rows)


def _refuse_a_name_in_both(train_rows: Sequence[ListRow], val_rows: Sequence[ListRow]) -> None:
    both = {name for name, _ in train_rows} & {name for name, _ in val_rows}
    if both:
        raise UserError(
            f"{some(sorted(both))}: in {BRIGHT_FOLDER} and in {DRY_FOLDER}; one list cannot name both"
        )


def _plan_dark(plan: ListPlan, folder: Folder, official: OfficialList | None) -> list[ListRow]:
    rows = (
        official.rows
        if official
        else [(name, -1) for name in published.numbered(published.NUM_DARK)]
    )
    kept = keep_present(plan, DARK, [(name, -1) for name, _ in rows], folder.videos)
    plan.add(DARK, kept, published.NUM_DARK)
    _note_unlisted(plan, folder, [name for name in folder.videos if "/" not in name], kept)
    return kept


def _plan_total(plan: ListPlan, dark: Sequence[ListRow], arid: Sequence[ListRow]) -> None:
    rows = [*dark, *((name, -1) for name, _ in arid)]
    plan.add(TOTAL, rows, published.NUM_DARK + sum(published.ARID_V15.values()))
    if rows and not (dark and arid):
        lacking = "dark_unlabel's" if arid else "ARID's"
        plan.notes.append(f"{TOTAL}: without {lacking} clips, which are not in {DARK_FOLDER}")
    elif len(arid) != len(published.arid_order()):
        plan.notes.append(
            f"{TOTAL}: ARID's part has {len(arid)} of the published {len(published.arid_order())} clips"
        )


def plan_arid(folder: Folder, official: Mapping[str, OfficialList]) -> ListPlan:
    """The lists of ARID, its v1.0 splits where their lists were found, and the list of all dark clips.

    Args:
        folder: `dark_train/Train`, with ARID's class folders.
        official: ARID's split lists by file name.

    Raises:
        UserError: if no clip of the eleven classes is there.
    """
    plan = ListPlan()
    rows, unknown = _arid_rows(folder)
    if not rows:
        raise UserError(
            f"{folder.path}: no video in a class folder ({', '.join(CLASSES)}); see DATASET.md"
        )
    plan.add(ARID, rows, len(published.arid_order()))
    plan.add_table("ARID", published.ARID_V15, rows)
    _note_arid_version(plan, folder, rows, unknown)
    taken = {name for name, _ in rows}
    stems = {_stem(name) for name in taken}
    twice = [name for name in folder.videos if name not in taken and _stem(name) in stems]
    if twice:
        plan.notes.append(f"{ARID}: there in another container too: {len(twice)}: {some(twice)}")
    for name, source in official.items():
        kept = keep_present(plan, _split_name(name), source.rows, folder.videos)
        plan.add(
            _split_name(name),
            [(f"{DARK_FOLDER}/{path}", label) for path, label in kept],
            len(source.rows),
        )
    _plan_total(plan, _plan_dark(ListPlan(), folder, None), rows)
    note_folder(plan, folder)
    return plan


def _split_name(name: str) -> str:
    return f"{_stem(name).lower()}.csv"


def _arid_rows(folder: Folder) -> tuple[list[ListRow], list[str]]:
    """ARID's clips, the published ones first and in their order; and the names that were not published."""
    rank = {_stem(name): place for place, name in enumerate(published.arid_order())}
    # A clip that is there in two containers is one clip, of the last: MP4 of AVI and MP4.
    named = {
        _stem(name): name for name in folder.videos if name.split("/")[0] in CLASSES and "/" in name
    }
    found = list(named.values())
    unknown = [name for name in found if _stem(name) not in rank]
    ordered = sorted(found, key=lambda name: rank.get(_stem(name), len(rank)))
    return [(name, CLASSES.index(name.split("/")[0])) for name in ordered], unknown


def _note_arid_version(
    plan: ListPlan, folder: Folder, rows: Sequence[ListRow], unknown: Sequence[str]
) -> None:
    counts = Counter(CLASSES[label] for _, label in rows)
    if counts == published.ARID_V10:
        plan.notes.append(
            f"{ARID}: these are the {len(rows)} clips of ARID v1.0; v1.5 has {plan.counts[ARID]}"
        )
    else:
        keep_present(
            plan, ARID, [(name, 0) for name in published.arid_order()], [name for name, _ in rows]
        )
    if unknown:
        plan.notes.append(
            f"{ARID}: {len(unknown)} clips that ARID v1.5 does not have, at the end: {some(unknown)}"
        )
    strangers = sorted({name.split("/")[0] for name in folder.videos if "/" in name} - set(CLASSES))
    if strangers:
        plan.notes.append(f"{folder.path}: left out folders that are no class: {some(strangers)}")


@dataclass(frozen=True)
class Tree:
    """Lists of one's own data.

    Attributes:
        plan: the lists.
        classes: class names in index order.
        train, val: `class/video` names below the source folder.
        dark: names below the folder of dark clips.
    """

    plan: ListPlan
    classes: list[str]
    train: list[str]
    val: list[str]
    dark: list[str]


def plan_tree(source: Folder, dark: Folder | None, val_fraction: float, seed: int) -> Tree:
    """Lists of a `class/video` tree: classes in the order of their names, some clips of each for validation.

    As in the published layout, the training list ends with the validation list; `DATA.EXCLUDE_VAL` keeps it out of
    training.

    Args:
        source: bright clips in class folders.
        dark: clips without labels, if any.
        val_fraction: share of each class for validation, in [0, 1); a class keeps at least one clip for training.
        seed: of the choice.

    Raises:
        UserError: if there are not two classes, or no dark clip where a folder was given.
    """
    plan = ListPlan()
    by_class: dict[str, list[str]] = {}
    for name in source.videos:
        if "/" in name:
            by_class.setdefault(name.split("/")[0], []).append(name)
    classes = sorted(by_class)
    if len(classes) < 2:
        raise UserError(
            f"{source.path}: {len(classes)} class folders with videos, expected at least two"
        )
    if dark is not None and not dark.videos:
        raise UserError(f"{dark.path}: no video in it")
    train: list[ListRow] = []
    val: list[ListRow] = []
    for label, name in enumerate(classes):
        chosen = _choose(len(by_class[name]), val_fraction, seed, label)
        for place, video in enumerate(by_class[name]):
            (val if place in chosen else train).append((video, label))
    plan.add(TRAIN, train + val)
    if val:
        plan.add(VAL_DRY, val)
    if dark is not None:
        for name in (DARK, TOTAL):
            plan.add(name, [(video, -1) for video in dark.videos])
        note_folder(plan, dark)
    note_folder(plan, source)
    _note_unlisted(plan, source, source.videos, train + val)
    train_names, val_names = ([name for name, _ in rows] for rows in (train, val))
    return Tree(plan, classes, train_names, val_names, list(dark.videos if dark else ()))


def _choose(count: int, fraction: float, seed: int, label: int) -> set[int]:
    """Places of the clips for validation: at least one if the class has two, never all."""
    if fraction == 0:
        return set()
    number = min(max(round(count * fraction), 1), count - 1)
    return set(np.random.default_rng([seed, label]).permutation(count)[:number].tolist())
