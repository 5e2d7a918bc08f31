"""Public weights that an experiment may name in `TRAIN.CHECKPOINT_FILE_PATH` instead of a path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from nightcrawler.utils.errors import UserError

WEIGHTS_FOLDER = "weights"
# What training leaves in an experiment's folder.
OWN_BEST = "best.pyth"


@dataclass(frozen=True)
class ZooEntry:
    """One public checkpoint.

    Attributes:
        file: its usual file name, looked for in `weights/`.
        source: where its authors offer it.
        sha256: of the file, checked when loading; empty: unknown to us.
    """

    file: str
    source: str
    sha256: str = ""


_UNIFORMER = "https://github.com/Sense-X/UniFormer/tree/main/video_classification"
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
    "mvit_b_32x3_k600": ZooEntry(
        "k600.pyth",
        "https://github.com/facebookresearch/SlowFast/blob/main/MODEL_ZOO.md (MViTv1 B-Conv, K600)",
    ),
    "slowfast_r101_8x8_k700": ZooEntry(
        "SlowFast-ResNet101-8x8.pth",
        "https://github.com/MVIG-SJTU/AlphAction/blob/master/MODEL_ZOO.md (SlowFast-R101, Kinetics-700)",
    ),
}


def find_weights(name_or_path: str | Path) -> Path:
    """The file of a path or of a name in `ZOO` (looked for in `weights/`).

    Raises:
        UserError: if it is not there; the message says where to get it.
    """
    name = str(name_or_path)
    entry = ZOO.get(name)
    path = Path(WEIGHTS_FOLDER) / entry.file if entry else Path(name)
    if path.is_file():
        return path
    if entry:
        raise UserError(
            f"weights '{name}' are not there: get {entry.file} from {entry.source} and put it at {path}; "
            "or set TRAIN.CHECKPOINT_FILE_PATH to another file, or to '' for random weights"
        )
    raise UserError(f"{name}: no such checkpoint{_hint(path)}")


def _hint(path: Path) -> str:
    """What to do about a path that leads to no file."""
    if path.is_dir():
        return ", it is a folder: name a file in it"
    for entry in ZOO.values():
        if path.name == entry.file:
            return f": get it from {entry.source}"
    if path.name == OWN_BEST:
        return f": it is what training leaves there; run that experiment first (bash {path.parent / 'run.sh'})"
    return "" if os.sep in str(path) else f"; names known without a path: {', '.join(sorted(ZOO))}"


def check_weights(name_or_path: str | Path, sha256: str) -> None:
    """Compare a file's hash with that of its name in `ZOO`, where we know it.

    Raises:
        UserError: if the file is not the one that was published.
    """
    entry = ZOO.get(str(name_or_path))
    if entry and entry.sha256 and entry.sha256 != sha256:
        raise UserError(
            f"{Path(WEIGHTS_FOLDER) / entry.file}: not the published file: its sha256 is {sha256}, expected "
            f"{entry.sha256}; get it again from {entry.source}, or name the file by its path to load it anyway"
        )
