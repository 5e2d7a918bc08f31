"""List files planned from the videos that exist, without reading or writing files.

Folders come in as names and lists go out as rows. `published_lists` plans the lists of UG2+ and
ARID, `plan_tree` those of the user's own videos.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nightcrawler.data.splits import DARK_TRAIN, SPLITS
from nightcrawler.prepare.folders import VideoFolder, printable
from nightcrawler.prepare.published import CLASSES, MAX_SHOWN, ListRow
from nightcrawler.prepare.recordings import RecordingOf, choose_validation, recording_by_name
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import plain_name

TRAIN = SPLITS["train"][0]
VAL_DRY = SPLITS["val_dry"][0]
DARK = SPLITS["dark_unlabel"][0]
ARID = SPLITS["arid"][0]
TOTAL = SPLITS["total_unlabel"][0]
TEST = SPLITS["test"][0]
# With fewer validation clips of a class, a warning says what its accuracy is worth.
FEW_CLIPS = 10
# Among so few classes the right one is always among the first five.
TOP = 5
(DARK_FOLDER,) = DARK_TRAIN
BRIGHT_FOLDER, DRY_FOLDER = SPLITS["train"][1]
(TEST_FOLDER,) = SPLITS["test"][1]


@dataclass
class ListPlan:
    """Lists to write, and notes about them.

    Attributes:
        lists: file name below the data folder, to `(name, label)` rows.
        counts: file name to the number of rows of the published list.
        tables: heading to the clips of each class, as (published, found).
        notes: repairs, missing and omitted videos, one line each.
    """

    lists: dict[str, list[ListRow]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    tables: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, rows: list[ListRow], expected: int | None = None) -> None:
        """Add a list, or only a note if it has no rows.

        Args:
            name: of the file.
            rows: of the list.
            expected: number of rows of the published list, if there is one.
        """
        if expected is not None:
            self.counts[name] = expected
        if rows:
            self.lists[name] = rows
        else:
            self.notes.append(f"{name}: not written, because none of its videos was found")

    def add_table(self, heading: str, expected: Mapping[str, int], rows: Iterable[ListRow]) -> None:
        """Count the rows of each class, beside the expected counts.

        Args:
            heading: of the table.
            expected: class name to the published count.
            rows: to count.
        """
        found = count_classes(rows)
        table = {}
        for name, count in expected.items():
            table[name] = (count, found[name])
        self.tables[heading] = table


def names_of(rows: Iterable[ListRow]) -> list[str]:
    """Return the names of rows."""
    return [name for name, _ in rows]


def without_labels(names: Iterable[str]) -> list[ListRow]:
    """Return rows with the label -1."""
    return [(name, -1) for name in names]


def count_classes(rows: Iterable[ListRow]) -> Counter[str]:
    """Return class name to the number of its rows."""
    return Counter(CLASSES[label] for _, label in rows)


def shorten(names: Sequence[str]) -> str:
    """Return the first five names, and the number of the others."""
    text = ", ".join(names[:MAX_SHOWN])
    if len(names) > MAX_SHOWN:
        text += f" and {len(names) - MAX_SHOWN} more"
    return text


def note_folder(plan: ListPlan, folder: VideoFolder) -> None:
    """Note the content of a folder that no list can hold."""
    if folder.others:
        plan.notes.append(f"{folder.path}: {_passed_over(folder)}")
    if folder.empty:
        plan.notes.append(f"{folder.path}: folders without a video: {shorten(folder.empty)}")
    if folder.refused:
        count = len(folder.refused)
        plan.notes.append(f"{folder.path}: left out {count}: {shorten(folder.refused)}")


def _passed_over(folder: VideoFolder) -> str:
    """Return how many files of which suffixes are no videos by their names."""
    counted = []
    for suffix, count in sorted(folder.others.items(), key=lambda item: (-item[1], item[0])):
        counted.append(f"{printable(suffix) or 'none'} ({count})")
    total = sum(folder.others.values())
    return f"{total} files have no suffix of a video: {shorten(counted)}"


def keep_present(
    plan: ListPlan, list_name: str, rows: Iterable[ListRow], videos: Iterable[str]
) -> list[ListRow]:
    """Return the rows whose video exists, perhaps with another suffix than in the list.

    Missing videos (unless all are missing) and other suffixes are noted.

    Args:
        plan: takes the notes.
        list_name: file name of the list.
        rows: of the published list.
        videos: names of existing videos.
    """
    rows = list(rows)
    # A download may spell names in another Unicode form than the list: both are found.
    spelled = {plain_name(name): name for name in videos}
    rows = [(spelled.get(plain_name(name), name), label) for name, label in rows]
    present = set(spelled.values())
    # Videos that the list names exactly stand in for no other row.
    free = present.difference(names_of(rows))
    by_stem = {}
    for name in sorted(free, reverse=True):
        by_stem[strip_suffix(name)] = name
    kept: list[ListRow] = []
    missing = []
    renamed = []
    for name, label in rows:
        found: str | None = name
        if name not in present:
            # A video is used for one row only, therefore pop.
            found = by_stem.pop(strip_suffix(name), None)
        if found is None:
            missing.append(name)
            continue
        kept.append((found, label))
        if found != name:
            renamed.append(f"{name} is {found}")
    # A list whose videos are all missing is noted once, by `ListPlan.add`.
    if missing and kept:
        plan.notes.append(f"{list_name}: missing files: {len(missing)}: {shorten(missing)}")
    if renamed:
        plan.notes.append(
            f"{list_name}: {len(renamed)} files have another suffix than in the list: "
            f"{renamed[0]}, ..."
        )
    return kept


def strip_suffix(name: str) -> str:
    """Return a name without the suffix of its last part, if it has one."""
    stem, _, suffix = name.rpartition(".")
    return stem if stem and "/" not in suffix else name


def note_unlisted(
    plan: ListPlan, folder: VideoFolder, videos: Iterable[str], rows: Iterable[ListRow]
) -> None:
    """Note videos of a folder that no list names."""
    listed = set(names_of(rows))
    others = [name for name in videos if name not in listed]
    if others:
        count = len(others)
        plan.notes.append(f"{folder.path}: {count} videos are in no list: {shorten(others)}")


@dataclass(frozen=True)
class Tree:
    """Lists of the user's own videos.

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


def plan_tree(
    source: VideoFolder,
    dark: VideoFolder | None,
    val_fraction: float,
    seed: int,
    recording_of: RecordingOf = recording_by_name,
) -> Tree:
    """Plan the lists of a `class/video` tree.

    Classes are numbered in the order of their names, and some clips of each are kept for
    validation, whole recordings only. As in the published layout, the training list ends with the
    validation list, which `DATA.EXCLUDE_VAL` keeps out of training.

    Args:
        source: bright clips in class folders.
        dark: clips without labels, if any.
        val_fraction: share of each class for validation, in [0, 1). At least one clip of each
            class stays for training.
        seed: of the validation split.
        recording_of: recording of a clip, from its name.

    Raises:
        UserError: if there are fewer than two classes, or `dark` holds no video.

    Example:
        >>> tree = plan_tree(scan_folder(Path("videos")), None, val_fraction=0.1, seed=0)
        >>> tree.plan.lists["val_dry.csv"]
    """
    by_class: dict[str, list[str]] = {}
    for name in source.videos:
        if "/" in name:
            by_class.setdefault(name.split("/")[0], []).append(name)
    classes = sorted(by_class)
    if len(classes) < 2:
        raise UserError(
            f"{source.path}: {len(classes)} class folders with videos, expected at least two"
            f"{_reasons(source)}"
        )
    if dark is not None and not dark.videos:
        raise UserError(f"{dark.path}: no video in it, expected the dark clips{_reasons(dark)}")
    plan = ListPlan()
    train, val = _split(plan, by_class, val_fraction, seed, recording_of)
    # DATA.EXCLUDE_VAL leaves the validation clips out when the list is read.
    plan.add(TRAIN, train + val)
    if val:
        plan.add(VAL_DRY, val)
    dark_names: list[str] = []
    if dark is not None:
        dark_names = list(dark.videos)
        for name in (DARK, TOTAL):
            plan.add(name, without_labels(dark_names))
        note_folder(plan, dark)
    note_folder(plan, source)
    note_unlisted(plan, source, source.videos, train + val)
    return Tree(plan, classes, names_of(train), names_of(val), dark_names)


def _reasons(folder: VideoFolder) -> str:
    """Return the things that a folder holds instead of videos, to end an error with."""
    notes = ListPlan()
    note_folder(notes, folder)
    reasons = [note.removeprefix(f"{folder.path}: ") for note in notes.notes]
    if any("link" in one for one in folder.refused):
        reasons.append("--copy follows links")
    return "".join(f"; {reason}" for reason in reasons)


def _split(
    plan: ListPlan,
    by_class: Mapping[str, Sequence[str]],
    fraction: float,
    seed: int,
    recording_of: RecordingOf,
) -> tuple[list[ListRow], list[ListRow]]:
    """Return training and validation rows, and note what they cannot give."""
    train: list[ListRow] = []
    val: list[ListRow] = []
    without = []
    few = []
    numbered = []
    for label, name in enumerate(sorted(by_class)):
        videos = by_class[name]
        recordings = [recording_of(video) for video in videos]
        if recording_of is recording_by_name and len(set(recordings)) == 1 < len(videos):
            # `run_1` to `run_80`: such names number clips, and tell nothing of recordings.
            recordings = list(videos)
            numbered.append(name)
        # Seeding by class keeps the other classes' split when a class gets more clips.
        chosen = choose_validation(recordings, fraction, [seed, label])
        for place, video in enumerate(videos):
            rows = val if place in chosen else train
            rows.append((video, label))
        if fraction and not chosen:
            counts = f"{len(videos)} clip{'s' if len(videos) > 1 else ''}"
            if len(videos) > 1:
                num = len(set(recordings))
                counts += f" of {num} recording{'s' if num > 1 else ''}"
            without.append(f"{printable(name)} ({counts})")
        elif 0 < len(chosen) < FEW_CLIPS:
            few.append(f"{printable(name)} ({len(chosen)})")
    if without:
        plan.notes.append(f"classes without a validation clip: {shorten(without)}")
    if few:
        plan.notes.append(
            f"fewer than {FEW_CLIPS} validation clips: {shorten(few)}: each moves its class by 10 "
            "points and more, so checkpoints and thresholds are chosen partly by chance; give more "
            "clips, or a larger share for validation"
        )
    if fraction and len(by_class) <= TOP:
        plan.notes.append(
            f"{len(by_class)} classes: top-{TOP} accuracy is always 100 %, and chance is "
            f"{100 / len(by_class):.0f} %"
        )
    if numbered and fraction:
        plan.notes.append(
            "classes whose names number the clips and tell no recordings, so that clips of one "
            "recording may be in training and validation (--recordings FILE tells them): "
            f"{shorten([printable(name) for name in numbered])}"
        )
    return train, val
