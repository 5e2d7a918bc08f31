"""Published facts of UG2+ and ARID: clip counts, the order of clips, and readers of their lists."""

from __future__ import annotations

import csv
import functools
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import check_relative

# Name of a video, and its label or -1.
ListRow = tuple[str, int]

# Clips of each class, in index order. The bright training list is without the dry-run clips.
ARID_V15 = {
    "Drink": 485, "Jump": 555, "Pick": 323, "Pour": 552, "Push": 629, "Run": 626,
    "Sit": 456, "Stand": 459, "Turn": 740, "Walk": 718, "Wave": 664,
}  # fmt: skip
ARID_V10 = {
    "Drink": 338, "Jump": 357, "Pick": 205, "Pour": 372, "Push": 475, "Run": 339,
    "Sit": 234, "Stand": 237, "Turn": 413, "Walk": 448, "Wave": 366,
}  # fmt: skip
TRAIN = {
    "Drink": 192, "Jump": 475, "Pick": 186, "Pour": 132, "Push": 505, "Run": 262,
    "Sit": 153, "Stand": 135, "Turn": 116, "Walk": 306, "Wave": 163,
}  # fmt: skip
CLASSES = tuple(ARID_V15)
DRY_RUN = dict.fromkeys(CLASSES, 30)
NUM_DARK = 3088
NUM_TEST = 3103

LABELLED_LIST = "ug2_2022_train_labeled.csv"
DRY_RUN_LIST = "hmdb_validate_public.csv"
DARK_LIST = "ug2_2022_train_dark.csv"
ARID_LISTS = tuple(
    f"ARID_split{split}_{part}.txt" for split in (1, 2, 3) for part in ("train", "test", "other")
)
HMDB_NAME = re.compile(
    r"_([a-z]+)_[fhlu]_[cn]m_np[0-9]+_(?:ba|fr|le|ri)_(?:bad|med|goo)_[0-9]+\.avi"
)
# A row damaged by a spreadsheet: no name, and `class<tab>name` in the place of the class.
DAMAGED_CLASS = re.compile(r"([0-9]{1,2})\t(\S.*)")
MAX_LIST_BYTES = 1 << 24
# Rows or names that a message shows.
MAX_SHOWN = 5


@dataclass(frozen=True)
class OfficialList:
    """A list as published by a data set's authors.

    Attributes:
        path: the file.
        rows: names and labels in its order, -1 if it has no labels.
        repaired: ids (first column) of malformed rows that could be repaired.
    """

    path: Path
    rows: tuple[ListRow, ...]
    repaired: tuple[int, ...] = ()


def dark_clip_names(count: int) -> list[str]:
    """Return the names of the challenge's dark clips: 0.mp4, 1.mp4, ..."""
    return [f"{number}.mp4" for number in range(count)]


@functools.lru_cache(maxsize=1)
def arid_order() -> tuple[str, ...]:
    """Return the 6,207 clips of ARID v1.5 in the order of the published list.

    The order follows no rule, so a file of the package holds it.
    """
    text = resources.files(__package__).joinpath("arid_order.txt").read_text(encoding="ascii")
    names = []
    for line in text.splitlines():
        # `Drink 16: 13 19` stands for Drink/Drink_16_13.mp4 and Drink/Drink_16_19.mp4.
        scene, _, clips = line.partition(":")
        action, number = scene.split()
        for clip in clips.split():
            names.append(f"{action}/{action}_{number}_{clip}.mp4")
    return tuple(names)


def find_lists(names: Iterable[str], folder: Path) -> dict[str, Path]:
    """Find lists in a folder or up to two folders deeper, where the topmost one counts.

    Args:
        names: file names.
        folder: to search.

    Returns:
        File name to path, of the lists that were found.
    """
    found = {}
    for name in names:
        for pattern in (name, f"*/{name}", f"*/*/{name}"):
            paths = sorted(path for path in folder.glob(pattern) if path.is_file())
            if paths:
                found[name] = paths[0]
                break
    return found


def read_ug2_list(path: Path) -> OfficialList:
    """Read `VideoID,Video` or `VideoID,Video,ClassID` rows.

    Rows with class and name in one quoted field are repaired.

    Args:
        path: the file.

    Raises:
        UserError: if the file has another format, or naming the first five bad rows.
    """
    try:
        table = list(csv.reader(io.StringIO(_read_text(path), newline=""), strict=True))
    except csv.Error as error:
        raise UserError(f"{path}: not a list of the challenge ({error})") from None
    header = table[0] if table else []
    if header not in (["VideoID", "Video"], ["VideoID", "Video", "ClassID"]):
        raise UserError(
            f"{path}: begins with {','.join(header)!r}, "
            "expected VideoID,Video or VideoID,Video,ClassID"
        )
    rows = []
    repaired = []
    checker = _RowChecker(path)
    for line, raw_fields in enumerate(table[1:], start=2):
        fields = list(map(str.strip, raw_fields))
        if len(fields) != len(header) or not fields[0].isdecimal():
            checker.add(line, f"{','.join(fields)!r}, expected {','.join(header)}")
            continue
        name = fields[1]
        label = fields[2] if len(header) == 3 else "-1"
        if not name and (match := DAMAGED_CLASS.fullmatch(label)):
            label, name = match.groups()
            repaired.append(int(fields[0]))
        if row := checker.check(line, name, label):
            rows.append(row)
    checker.raise_if_any()
    return OfficialList(path, tuple(rows), tuple(repaired))


def read_arid_list(path: Path) -> OfficialList:
    """Read `id<tab>class<tab>Class/Class_x_y.avi` rows.

    Args:
        path: the file.

    Raises:
        UserError: naming the first five rows that are malformed or whose class is not in the name.
    """
    rows = []
    checker = _RowChecker(path)
    for line, text in enumerate(_read_text(path).rstrip().split("\n"), start=1):
        fields = text.rstrip("\r").split("\t")
        if len(fields) != 3:
            checker.add(line, f"{text!r}, expected id, class and name with tabs between")
            continue
        row = checker.check(line, fields[2], fields[1])
        if row and row[0].split("/")[0] != CLASSES[row[1]]:
            checker.add(line, f"{row[0]!r} has class {row[1]}, which is {CLASSES[row[1]]}")
        elif row:
            rows.append(row)
    checker.raise_if_any()
    return OfficialList(path, tuple(rows))


def label_of_hmdb_name(name: str) -> int:
    """Return the class in the name of an HMDB51 clip, such as `..._drink_u_nm_np1_fr_goo_9.avi`.

    Args:
        name: of the clip.

    Raises:
        UserError: if the name has another form, or its class is none of the eleven.
    """
    match = HMDB_NAME.search(name)
    action = match[1].capitalize() if match else ""
    if action not in CLASSES:
        raise UserError(
            f"{name!r} has no class in its name, "
            "expected HMDB51's form ..._drink_u_nm_np1_fr_goo_9.avi"
        )
    return CLASSES.index(action)


def _read_text(path: Path) -> str:
    # The lists have some hundred KiB. The limit keeps a video given by mistake out of memory.
    if path.stat().st_size > MAX_LIST_BYTES:
        raise UserError(f"{path}: larger than 16 MiB, expected a list")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None


class _RowChecker:
    """Check of a list's rows that collects the errors of all rows before it raises.

    Args:
        path: the list, for messages.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._errors: list[str] = []
        self._line_of: dict[str, int] = {}

    def add(self, line: int, message: str) -> None:
        """Note an error of a line."""
        self._errors.append(f"line {line}: {message}")

    def check(self, line: int, name: str, label: str) -> ListRow | None:
        """Return the row, or `None` after noting its error.

        Args:
            line: number, from 1.
            name: relative path of a video.
            label: -1 or a class index.
        """
        try:
            check_relative(name)
        except UserError as error:
            self.add(line, str(error))
            return None
        if not re.fullmatch(r"-1|[0-9]{1,2}", label) or int(label) >= len(CLASSES):
            self.add(line, f"class {label!r}, expected 0..{len(CLASSES) - 1}")
        elif name in self._line_of:
            self.add(line, f"{name!r} is in line {self._line_of[name]} already")
        else:
            self._line_of[name] = line
            return name, int(label)
        return None

    def raise_if_any(self) -> None:
        """Raise a `UserError` with the first five errors, or for a list without rows."""
        if self._errors:
            text = "; ".join(self._errors[:MAX_SHOWN])
            if len(self._errors) > MAX_SHOWN:
                text += f"; and {len(self._errors) - MAX_SHOWN} more"
            raise UserError(f"{self._path}: {text}")
        if not self._line_of:
            raise UserError(f"{self._path}: the list is empty")
