"""Public weights by name, for `TRAIN.CHECKPOINT_FILE_PATH` and `create_model(pretrained=...)`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.lazy_registry import unknown_name

WEIGHTS_FOLDER = "weights"
# Best checkpoint that a training writes into its experiment's folder.
OWN_BEST = "best.pyth"


@dataclass(frozen=True)
class ZooEntry:
    """One public checkpoint.

    Attributes:
        file: its usual file name, looked for in `weights/`.
        source: web page where its authors offer it.
        sha256: of the file, checked when loading; empty if unknown.
    """

    file: str
    source: str
    sha256: str = ""


_UNIFORMER = "https://github.com/Sense-X/UniFormer/tree/main/video_classification"
_SLOWFAST = "https://github.com/facebookresearch/SlowFast/blob/main/MODEL_ZOO.md"
_ALPHACTION = "https://github.com/MVIG-SJTU/AlphAction/blob/master/MODEL_ZOO.md"
ZOO: dict[str, ZooEntry] = {
    "uniformer_base_k600_32x4": ZooEntry(
        "uniformer_base_k600_32x4.pth", f"{_UNIFORMER} (table Kinetics-600, UniFormer-B, 32x1x4)"
    ),
    "uniformer_base_sthv2_32_prek400": ZooEntry(
        "uniformer_base_sthv2_32_prek400.pth",
        f"{_UNIFORMER} (table Something-Something V2, UniFormer-B, K400, 32x3x1)",
    ),
    "uniformer_small_k400_16x4": ZooEntry(
        "uniformer_small_k400_16x4.pth", f"{_UNIFORMER} (table Kinetics-400, UniFormer-S, 16x1x4)"
    ),
    "mvit_b_32x3_k600": ZooEntry("k600.pyth", f"{_SLOWFAST} (MViTv1 B-Conv, K600)"),
    "slowfast_r101_8x8_k700": ZooEntry(
        "SlowFast-ResNet101-8x8.pth", f"{_ALPHACTION} (SlowFast-R101, Kinetics-700)"
    ),
}


def find_weights(name_or_path: str | Path) -> Path:
    """Return the file of a path, or of a name in `ZOO` (looked for in `weights/`).

    Args:
        name_or_path: a name of `ZOO` or a path.

    Raises:
        UserError: if there is no such file. The message says where to get it.
    """
    name = str(name_or_path)
    entry = ZOO.get(name)
    path = Path(name)
    if entry:
        path = Path(WEIGHTS_FOLDER) / entry.file
    if path.is_file():
        return path
    if entry:
        raise UserError(
            f"weights '{name}' are missing: get {entry.file} from {entry.source} and put it at "
            f"{path}, or name another file (TRAIN.CHECKPOINT_FILE_PATH), or '' for random weights"
        )
    raise UserError(_missing(path))


def _missing(path: Path) -> str:
    """Return a message about a path without a file, with the next step where it is known."""
    message = f"{path}: no such checkpoint"
    if path.is_dir():
        return f"{message}, it is a folder: name a file in it"
    for entry in ZOO.values():
        if path.name == entry.file:
            return f"{message}: get it from {entry.source}"
    if path.name == OWN_BEST:
        script = path.parent / "run.sh"
        how = f" (bash {script})" if script.is_file() else ""
        return f"{message}: training writes it, so run that experiment first{how}"
    if os.sep in str(path):
        return message
    # A word without a slash is likely to be a misspelt name.
    return f"{message}, and {unknown_name('name of public weights', str(path), ZOO)}"


def check_weights(name_or_path: str | Path, sha256: str) -> None:
    """Compare a file's hash with that of its name in `ZOO`, where it is known.

    Args:
        name_or_path: as given to `find_weights`. Files named by a path are not checked.
        sha256: of the file.

    Raises:
        UserError: if the file is not the published one.
    """
    entry = ZOO.get(str(name_or_path))
    if entry and entry.sha256 and entry.sha256 != sha256:
        raise UserError(
            f"{Path(WEIGHTS_FOLDER) / entry.file}: not the published file: its sha256 is "
            f"{sha256}, expected {entry.sha256}; get it again from {entry.source}, or name the "
            "file by its path to load it anyway"
        )
