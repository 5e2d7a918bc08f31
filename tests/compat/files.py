"""The files of version 0.1, and what its code said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

V0_1 = Path(__file__).resolve().parent / "v0_1"
RUN = V0_1 / "run"
RESULTS = V0_1 / "results/aridx4x32x1x1.pkl"
PSEUDO = V0_1 / "pseudo/stage1.csv"
PIPELINE = V0_1 / "pipeline"
LATEST = "checkpoints/checkpoint_latest.pyth"


def expected() -> dict[str, Any]:
    """Values that the old code read or computed."""
    content: dict[str, Any] = json.loads((V0_1 / "expected.json").read_text())
    return content
