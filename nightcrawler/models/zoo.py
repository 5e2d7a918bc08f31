"""Public weights that an experiment may name in `TRAIN.CHECKPOINT_FILE_PATH` instead of a path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from nightcrawler.utils.errors import UserError

WEIGHTS_FOLDER = "weights"


@dataclass(frozen=True)
class ZooEntry:
    """One public checkpoint.

    Attributes:
        file: its usual file name, looked for in `weights/`.
        source: where its authors offer it.
    """

    file: str
    source: str


ZOO: dict[str, ZooEntry] = {
    "uniformer_base_k600_32x4": ZooEntry(
        "uniformer_base_k600_32x4.pth", "the UniFormer repository (Sense-X/UniFormer, video_classification)"
    ),
    "uniformer_base_sthv2_32_prek400": ZooEntry(
        "uniformer_base_sthv2_32_prek400.pth", "the UniFormer repository (Sense-X/UniFormer, video_classification)"
    ),
    "mvit_b_32x3_k600": ZooEntry(
        "k600.pyth", "the PySlowFast model zoo (facebookresearch/SlowFast, MViT-B 32x3, Kinetics-600)"
    ),
    "slowfast_r101_8x8_k700": ZooEntry(
        "SlowFast-ResNet101-8x8.pth", "the AlphAction model zoo (MVIG-SJTU/AlphAction, Kinetics-700)"
    ),
}


def find_weights(name_or_path: str) -> Path:
    """The file of a path or of a name in `ZOO` (looked for in `weights/`).

    Raises:
        UserError: if it is not there; the message says where to get it.
    """
    if name_or_path in ZOO:
        entry = ZOO[name_or_path]
        path = Path(WEIGHTS_FOLDER) / entry.file
        if not path.is_file():
            raise UserError(
                f"weights '{name_or_path}' are not there: get {entry.file} from {entry.source} and put it at {path}; "
                "or set TRAIN.CHECKPOINT_FILE_PATH to another file, or to '' for random weights"
            )
        return path
    path = Path(name_or_path)
    if not path.is_file():
        known = ", ".join(sorted(ZOO))
        hint = f"; names known without a path: {known}" if os.sep not in name_or_path else ""
        raise UserError(f"{name_or_path}: no such checkpoint{hint}")
    return path
