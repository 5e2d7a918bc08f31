"""Losses of parts of files: none may give other frames without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.damage import EQUAL, REFUSED, WRONG, read_all
from benchmarks.losses import FAULTS, FORMATS, NUM_FRAMES, losses, write_clip


@pytest.mark.parametrize("name", FORMATS)
def test_no_loss_is_silent(tmp_path: Path, name: str) -> None:
    found = losses(name, tmp_path, 3)
    assert sum(found.values()) == 3 * len(FAULTS)
    assert sum(found[fault, WRONG] for fault in FAULTS) == 0
    assert found["cut short", REFUSED] == 3
    assert sum(found[fault, EQUAL] for fault in FAULTS) == 0


def test_clips_hold_all_their_frames(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", "libx264", {})
    assert read_all(str(tmp_path / "a.mp4")).num_frames == NUM_FRAMES
