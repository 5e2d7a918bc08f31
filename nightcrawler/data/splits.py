"""Splits: which list file, which folders, bright or dark."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
# Split name: the bright split whose videos it is, each as a night camera would have recorded it.
DARKENED = {"val_dark": "val_dry"}


@dataclass(frozen=True)
class Split:
    """A named set of videos.

    Attributes:
        name: the split.
        list_file: its list.
        folders: where its videos are looked for, in order.
        dark: looks as filmed in the dark (enhanced in testing).
        darkened: its videos are bright, and pass through a night camera first.
    """

    name: str
    list_file: Path
    folders: tuple[Path, ...]
    dark: bool
    darkened: bool = False

    @property
    def has_dark_labels(self) -> bool:
        """Whether its labels are those of clips filmed in the dark: what is chosen by them is an oracle's."""
        return self.dark and not self.darkened


def get_split(name: str, prefix: str | Path) -> Split:
    """A split of the data below `prefix`; a name that is not in `SPLITS` or `DARKENED` is the list `{name}.csv`, dark.

    Raises:
        UserError: if the name is not a plain file name.
    """
    root = Path(prefix)
    if name in DARKENED:
        return replace(get_split(DARKENED[name], prefix), name=name, dark=True, darkened=True)
    if name in SPLITS:
        list_name, folders, dark = SPLITS[name]
        return Split(name, root / list_name, tuple(root / folder for folder in folders), dark)
    if not name or "/" in name or "\\" in name or name.startswith(".") or "\0" in name:
        known = ", ".join((*SPLITS, *DARKENED))
        raise UserError(
            f"split {name!r}: expected one of {known}, or the name of a list without .csv"
        )
    return Split(name, root / f"{name}.csv", (root,), True)
