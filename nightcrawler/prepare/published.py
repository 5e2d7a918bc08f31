"""What was published: how many clips, in which order, and the lists that come with UG2+ and ARID."""

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

ListRow = tuple[str, int]

# Clips of each class, classes in index order. The bright training list is without the dry-run clips.
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
NUM_DARK, NUM_TEST = 3088, 3103

LABELLED_LIST = "ug2_2022_train_labeled.csv"
DRY_RUN_LIST = "hmdb_validate_public.csv"
DARK_LIST = "ug2_2022_train_dark.csv"
ARID_LISTS = tuple(
    f"ARID_split{split}_{part}.txt" for split in (1, 2, 3) for part in ("train", "test", "other")
)
HMDB_NAME = re.compile(
    r"_([a-z]+)_[fhlu]_[cn]m_np[0-9]+_(?:ba|fr|le|ri)_(?:bad|med|goo)_[0-9]+\.avi"
)
# A row that a spreadsheet spoilt: no name, and `class<tab>name` where the class should be.
SPOILT_CLASS = re.compile(r"([0-9]{1,2})\t(\S.*)")
MAX_LIST_BYTES = 1 << 24
SHOWN = 5


@dataclass(frozen=True)
class OfficialList:
    """A list as its makers hand it out.

    Attributes:
        path: the file.
        rows: names and labels in its order; -1 where it has no label.
        repaired: the ids (first column) of rows that were malformed and could be repaired.
    """

    path: Path
    rows: tuple[ListRow, ...]
    repaired: tuple[int, ...] = ()


def numbered(count: int) -> list[str]:
    """Names of the challenge's dark clips: 0.mp4, 1.mp4, ..."""
    return [f"{number}.mp4" for number in range(count)]


@functools.lru_cache(maxsize=1)
def arid_order() -> tuple[str, ...]:
    """The 6,207 clips of ARID v1.5 in the order of the published list (no rule of sorting gives it)."""
    text = resources.files(__package__).joinpath("arid_order.txt").read_text(encoding="ascii")
    names = []
    for line in text.splitlines():
        scene, _, clips = line.partition(":")
        action, number = scene.split()
        names += [f"{action}/{action}_{number}_{clip}.mp4" for clip in clips.split()]
    return tuple(names)


def find_lists(names: Iterable[str], folder: Path) -> dict[str, Path]:
    """Where lists are: in a folder, or one or two folders deeper; the one nearest to the top counts."""
    found = {}
    for name in names:
        for pattern in (name, f"*/{name}", f"*/*/{name}"):
            paths = sorted(path for path in folder.glob(pattern) if path.is_file())
            if paths:
                found[name] = paths[0]
                break
    return found


def read_ug2_list(path: Path) -> OfficialList:
    """Read `VideoID,Video` or `VideoID,Video,ClassID` rows; repairs rows with class and name in one quoted field.

    Raises:
        UserError: if the file is no such list, or rows cannot be understood (the first five are named).
    """
    rows, repaired, faults = [], [], _Faults(path)
    try:
        table = list(csv.reader(io.StringIO(_read_text(path), newline=""), strict=True))
    except csv.Error as error:
        raise UserError(f"{path}: not a list of the challenge ({error})") from None
    header = table[0] if table else []
    if header not in (["VideoID", "Video"], ["VideoID", "Video", "ClassID"]):
        raise UserError(
            f"{path}: begins with {','.join(header)!r}, expected VideoID,Video or VideoID,Video,ClassID"
        )
    for line, fields in enumerate(table[1:], start=2):
        fields = [field.strip() for field in fields]
        if len(fields) != len(header) or not fields[0].isdecimal():
            faults.add(line, f"{','.join(fields)!r}, expected {','.join(header)}")
            continue
        name, label = fields[1], fields[2] if len(header) == 3 else "-1"
        if not name and (match := SPOILT_CLASS.fullmatch(label)):
            label, name = match.groups()
            repaired.append(int(fields[0]))
        if row := faults.check(line, name, label):
            rows.append(row)
    faults.stop_if_any()
    return OfficialList(path, tuple(rows), tuple(repaired))


def read_arid_list(path: Path) -> OfficialList:
    """Read `id<tab>class<tab>Class/Class_x_y.avi` rows.

    Raises:
        UserError: if rows cannot be understood, or a class is not that of the name (the first five are named).
    """
    rows, faults = [], _Faults(path)
    for line, text in enumerate(_read_text(path).rstrip().split("\n"), start=1):
        fields = text.rstrip("\r").split("\t")
        if len(fields) != 3:
            faults.add(line, f"{text!r}, expected id, class and name with tabs between")
            continue
        row = faults.check(line, fields[2], fields[1])
        if row and row[0].split("/")[0] != CLASSES[row[1]]:
            faults.add(line, f"{row[0]!r} has class {row[1]}, which is {CLASSES[row[1]]}")
        elif row:
            rows.append(row)
    faults.stop_if_any()
    return OfficialList(path, tuple(rows))


def label_of_hmdb_name(name: str) -> int:
    """The class that a clip of HMDB51 carries in its name, such as `..._drink_u_nm_np1_fr_goo_9.avi`.

    Raises:
        UserError: if the name is not of that form, or its class is none of the eleven.
    """
    match = HMDB_NAME.search(name)
    action = match[1].capitalize() if match else ""
    if action not in CLASSES:
        raise UserError(
            f"{name!r} has no class in its name, expected HMDB51's form ..._drink_u_nm_np1_fr_goo_9.avi"
        )
    return CLASSES.index(action)


def _read_text(path: Path) -> str:
    if path.stat().st_size > MAX_LIST_BYTES:
        raise UserError(f"{path}: larger than 16 MiB: not a list")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None


class _Faults:
    """Checks rows and remembers what is wrong with them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._faults: list[str] = []
        self._lines: dict[str, int] = {}

    def add(self, line: int, what: str) -> None:
        self._faults.append(f"line {line}: {what}")

    def check(self, line: int, name: str, label: str) -> ListRow | None:
        """The row, or `None` where it is at fault. Labels are -1 or a class."""
        try:
            check_relative(name)
        except UserError as error:
            self.add(line, str(error))
            return None
        if not re.fullmatch(r"-1|[0-9]{1,2}", label) or int(label) >= len(CLASSES):
            self.add(line, f"class {label!r}, expected 0..{len(CLASSES) - 1}")
        elif name in self._lines:
            self.add(line, f"{name!r} is in line {self._lines[name]} already")
        else:
            self._lines[name] = line
            return name, int(label)
        return None

    def stop_if_any(self) -> None:
        if self._faults:
            more = f"; and {len(self._faults) - SHOWN} more" if len(self._faults) > SHOWN else ""
            raise UserError(f"{self._path}: {'; '.join(self._faults[:SHOWN])}{more}")
        if not self._lines:
            raise UserError(f"{self._path}: the list is empty")
