"""Splits: which list file, which folders, bright or dark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nightcrawler.utils.errors import UserError

DARK_TRAIN = ("dark_train/Train",)

# Split name: list file, folders below the prefix, dark.
SPLITS: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "train": ("train_label+val_dry.csv", ("labeled_train/Train", "dry_run/Validation"), False),
    "val_dry": ("val_dry.csv", ("dry_run/Validation",), False),
    "dark_unlabel": ("dark_unlabel.csv", DARK_TRAIN, True),
    "arid": ("arid.csv", DARK_TRAIN, True),
    "total_unlabel": ("total_unlabel.csv", DARK_TRAIN, True),
    "test": ("test.csv", ("Test",), True),
}


@dataclass(frozen=True)
class Split:
    """A named set of videos.

    Attributes:
        name: the split.
        list_file: its list.
        folders: where its videos are looked for, in order.
        dark: filmed in the dark (enhanced in testing; its labels make a figure an oracle's when they choose).
    """

    name: str
    list_file: Path
    folders: tuple[Path, ...]
    dark: bool


def get_split(name: str, prefix: str | Path) -> Split:
    """A split of the data below `prefix`; a name that is not in `SPLITS` is the list `{name}.csv`, dark.

    Raises:
        UserError: if the name is not a plain file name.
    """
    root = Path(prefix)
    if name in SPLITS:
        list_name, folders, dark = SPLITS[name]
        return Split(name, root / list_name, tuple(root / folder for folder in folders), dark)
    if not name or "/" in name or "\\" in name or name.startswith(".") or "\0" in name:
        raise UserError(f"split {name!r}: expected one of {', '.join(SPLITS)}, or the name of a list without .csv")
    return Split(name, root / f"{name}.csv", (root,), True)
