"""Lists of UG2+ 2022 track 2 and ARID, planned from the videos that exist.

Each list has the published rows in the published order. Notes explain every difference between its
row count and the published one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nightcrawler.prepare import published
from nightcrawler.prepare.folders import VideoFolder
from nightcrawler.prepare.lists import (
    ARID,
    BRIGHT_FOLDER,
    DARK,
    DARK_FOLDER,
    DRY_FOLDER,
    TEST,
    TEST_FOLDER,
    TOTAL,
    TRAIN,
    VAL_DRY,
    ListPlan,
    count_classes,
    keep_present,
    names_of,
    note_folder,
    note_unlisted,
    shorten,
    strip_suffix,
    without_labels,
)
from nightcrawler.prepare.published import CLASSES, ListRow, OfficialList
from nightcrawler.utils.errors import UserError


def plan_ug2(folders: Mapping[str, VideoFolder], official: Mapping[str, OfficialList]) -> ListPlan:
    """Plan the lists of UG2+ 2022 track 2, and of ARID if its videos exist.

    Args:
        folders: the folders of the layout, by their name below the data folder.
        official: the challenge's lists that were found, by file name.

    Raises:
        UserError: if no list can be built, or the name of a dry-run clip does not tell its class.
    """
    plan = ListPlan()
    _plan_bright(plan, folders, official)
    dark = _plan_dark(plan, folders[DARK_FOLDER], official.get(published.DARK_LIST))
    _plan_total(plan, dark, _arid_rows(folders[DARK_FOLDER])[0])
    test = without_labels(published.dark_clip_names(published.NUM_TEST))
    rows = keep_present(plan, TEST, test, folders[TEST_FOLDER].videos)
    plan.add(TEST, rows, published.NUM_TEST)
    note_unlisted(plan, folders[TEST_FOLDER], folders[TEST_FOLDER].videos, rows)
    for folder in folders.values():
        note_folder(plan, folder)
    if not plan.lists:
        paths = ", ".join(str(folder.path) for folder in folders.values())
        raise UserError(f"no video of UG2+ below {paths}; see DATASET.md")
    return plan


def _plan_bright(
    plan: ListPlan, folders: Mapping[str, VideoFolder], official: Mapping[str, OfficialList]
) -> None:
    """Plan the labelled list, which ends with the dry-run list as published, and the latter."""
    train = official.get(published.LABELLED_LIST)
    val = official.get(published.DRY_RUN_LIST)
    if train is None or val is None:
        names = (published.LABELLED_LIST, published.DRY_RUN_LIST)
        missing = " and ".join(name for name in names if name not in official)
        plan.notes.append(
            f"{TRAIN}, {VAL_DRY}: not built without {missing}: give --official-lists DIR"
        )
        return
    for source in (train, val):
        if source.repaired:
            ids = f"{source.repaired[0]}..{source.repaired[-1]}"
            plan.notes.append(
                f"{source.path.name}: {len(source.repaired)} rows repaired ({ids}): "
                "class and name were in one field"
            )
    bright = folders[BRIGHT_FOLDER]
    dry_run = folders[DRY_FOLDER]
    train_rows = keep_present(plan, TRAIN, train.rows, bright.videos)
    labelled = [(name, published.label_of_hmdb_name(name)) for name, _ in val.rows]
    val_rows = keep_present(plan, VAL_DRY, labelled, dry_run.videos)
    plan.notes.append(
        f"{VAL_DRY}: classes are read from the names (HMDB51), "
        "because the challenge's list has none"
    )
    _refuse_a_name_in_both(train_rows, val_rows)
    num_val = sum(published.DRY_RUN.values())
    plan.add(TRAIN, train_rows + val_rows, sum(published.TRAIN.values()) + num_val)
    plan.add(VAL_DRY, val_rows, num_val)
    plan.add_table("bright training", published.TRAIN, train_rows)
    plan.add_table("val_dry", published.DRY_RUN, val_rows)
    note_unlisted(plan, bright, bright.videos, train_rows)
    note_unlisted(plan, dry_run, dry_run.videos, val_rows)


def _refuse_a_name_in_both(train_rows: Sequence[ListRow], val_rows: Sequence[ListRow]) -> None:
    # The list names videos without their folder, so one name cannot mean two videos.
    both = set(names_of(train_rows)).intersection(names_of(val_rows))
    if both:
        raise UserError(
            f"{shorten(sorted(both))}: in {BRIGHT_FOLDER} and in {DRY_FOLDER}, "
            "but one list cannot name both; rename or remove one"
        )


def _plan_dark(plan: ListPlan, folder: VideoFolder, official: OfficialList | None) -> list[ListRow]:
    names = published.dark_clip_names(published.NUM_DARK)
    if official:
        names = names_of(official.rows)
    kept = keep_present(plan, DARK, without_labels(names), folder.videos)
    plan.add(DARK, kept, published.NUM_DARK)
    # Clips in subfolders are ARID's.
    top_level = [name for name in folder.videos if "/" not in name]
    note_unlisted(plan, folder, top_level, kept)
    return kept


def _plan_total(plan: ListPlan, dark: Sequence[ListRow], arid: Sequence[ListRow]) -> None:
    # ARID's labels are known, but this list is for training without labels.
    rows = [*dark, *without_labels(names_of(arid))]
    plan.add(TOTAL, rows, published.NUM_DARK + sum(published.ARID_V15.values()))
    if rows and not (dark and arid):
        missing = "dark_unlabel's" if arid else "ARID's"
        plan.notes.append(f"{TOTAL}: without {missing} clips, which are not in {DARK_FOLDER}")
    elif len(arid) != len(published.arid_order()):
        expected = len(published.arid_order())
        plan.notes.append(f"{TOTAL}: ARID's part has {len(arid)} of the published {expected} clips")


def plan_arid(folder: VideoFolder, official: Mapping[str, OfficialList]) -> ListPlan:
    """Plan the lists of ARID, its v1.0 splits if their lists were found, and of all dark clips.

    Args:
        folder: `dark_train/Train`, with ARID's class folders.
        official: ARID's split lists by file name.

    Raises:
        UserError: if no clip of the eleven classes exists.
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
    taken = set(names_of(rows))
    stems = set(map(strip_suffix, taken))
    twice = [name for name in folder.videos if name not in taken and strip_suffix(name) in stems]
    if twice:
        plan.notes.append(f"{ARID}: also in another container: {len(twice)}: {shorten(twice)}")
    for name, source in official.items():
        list_name = f"{strip_suffix(name).lower()}.csv"
        kept = keep_present(plan, list_name, source.rows, folder.videos)
        # The splits are no part of the layout: their names are relative to the data folder.
        placed = [(f"{DARK_FOLDER}/{path}", label) for path, label in kept]
        plan.add(list_name, placed, len(source.rows))
    # The dark clips' own list and its notes belong to `plan_ug2`, the rows to the list of all.
    _plan_total(plan, _plan_dark(ListPlan(), folder, None), rows)
    note_folder(plan, folder)
    return plan


def _arid_rows(folder: VideoFolder) -> tuple[list[ListRow], list[str]]:
    """Return ARID's rows, the published ones first and in their order, and unpublished names."""
    # Stems, because the clips may be there as AVI (as published) or MP4.
    rank = {}
    for place, name in enumerate(published.arid_order()):
        rank[strip_suffix(name)] = place
    # A clip in two containers is one clip. The last one counts: MP4 of AVI and MP4.
    named = {}
    for name in folder.videos:
        if "/" in name and name.split("/")[0] in CLASSES:
            named[strip_suffix(name)] = name
    unknown = [name for stem, name in named.items() if stem not in rank]
    rows = []
    for name in sorted(named.values(), key=lambda name: rank.get(strip_suffix(name), len(rank))):
        rows.append((name, CLASSES.index(name.split("/")[0])))
    return rows, unknown


def _note_arid_version(
    plan: ListPlan, folder: VideoFolder, rows: Sequence[ListRow], unknown: Sequence[str]
) -> None:
    if count_classes(rows) == published.ARID_V10:
        plan.notes.append(
            f"{ARID}: these are the {len(rows)} clips of ARID v1.0; v1.5 has {plan.counts[ARID]}"
        )
    else:
        # Called for its notes on missing clips.
        keep_present(plan, ARID, without_labels(published.arid_order()), names_of(rows))
    if unknown:
        plan.notes.append(
            f"{ARID}: {len(unknown)} clips that ARID v1.5 does not have, at the end: "
            f"{shorten(unknown)}"
        )
    top_level = {name.split("/")[0] for name in folder.videos if "/" in name}
    others = sorted(top_level - set(CLASSES))
    if others:
        plan.notes.append(f"{folder.path}: left out folders that are no class: {shorten(others)}")
