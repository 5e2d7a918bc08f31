"""Splits of the data: list file, folders, and whether their videos are dark."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from nightcrawler.pose.files import SUFFIX
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
# Motions that `nightcrawler prepare` writes, of nobody who was filmed in the dark.
MOTIONS: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "figures": ("figures/motions.csv", ("figures",), False),
    "figures_val": ("figures_val/motions.csv", ("figures_val",), False),
    "people": ("people/motions.csv", ("people",), False),
}
# Name of a darkened split: the bright split that it is made of.
DARKENED = {"val_dark": "val_dry"}


@dataclass(frozen=True)
class Split:
    """A named set of videos.

    Attributes:
        name: name of the split.
        list_file: its list.
        folders: folders that videos, or their pose files, are looked for in, in order.
        dark: whether videos look as filmed in the dark, and are enhanced.
        darkened: whether videos are bright, and a camera model darkens them.
        suffix: end of the names of files, beyond the names in the list.
    """

    name: str
    list_file: Path
    folders: tuple[Path, ...]
    dark: bool
    darkened: bool = False
    suffix: str = ""

    @property
    def has_dark_labels(self) -> bool:
        """True where labels are those of clips filmed in the dark.

        A choice made by such labels is an oracle's.
        """
        return self.dark and not self.darkened


def get_split(name: str, prefix: str | Path, poses: str = "") -> Split:
    """Return a split of the data below a folder.

    Args:
        name: a key of `SPLITS`, `MOTIONS` or `DARKENED`. Any other name stands for the list
            `{name}.csv` of dark videos.
        prefix: the data folder.
        poses: folder below `prefix` with the pose files of the videos, laid out as the videos are.
            Empty: of videos themselves.

    Raises:
        UserError: if the name is not a plain file name.

    Example:
        >>> get_split("test", "data").list_file
        PosixPath('data/test.csv')
    """
    root = Path(prefix)
    if poses:
        # A pose file may lie beside its video, too.
        split = get_split(name, prefix)
        below = (root / poses / folder.relative_to(root) for folder in split.folders)
        return replace(split, folders=(*below, *split.folders), suffix=SUFFIX)
    if name in DARKENED:
        bright = get_split(DARKENED[name], prefix)
        return replace(bright, name=name, dark=True, darkened=True)
    known_lists = {**SPLITS, **MOTIONS}
    if name in known_lists:
        list_name, folders, dark = known_lists[name]
        return Split(name, root / list_name, tuple(root / folder for folder in folders), dark)
    # A name comes from a configuration or a command line, and must not lead out of the folder.
    if not name or "/" in name or "\\" in name or name.startswith(".") or "\0" in name:
        known = ", ".join((*SPLITS, *MOTIONS, *DARKENED))
        raise UserError(
            f"split {name!r}: expected one of {known}, or the name of a list without .csv"
        )
    return Split(name, root / f"{name}.csv", (root,), True)
