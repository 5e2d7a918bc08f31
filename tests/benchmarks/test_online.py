"""Streams whose light changes, and the table of what following them is worth."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks import online


def test_cameras_drift_and_lamps_are_switched() -> None:
    assert online.cameras("day", 0, 9) is None
    for light in ("night", "drift", "lamps"):
        chosen = online.cameras(light, 0, 132)
        assert chosen == online.cameras(light, 0, 132)
        assert chosen is not None
        means = np.array([camera.mean for camera in chosen])
        jumps = np.abs(np.diff(np.log2(means)))
        if light == "night":
            assert np.ptp(means) == 0
        elif light == "drift":
            assert means.max() / means.min() > 6
            assert jumps.max() < 0.3
        else:
            assert 3 <= (jumps > 2).sum() <= 10


def test_blocks_hold_one_class_each(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(11), 2)
    clips = (
        np.zeros((22, 25, 32, 48, 3), np.uint8) + labels.astype(np.uint8)[:, None, None, None, None]
    )
    stream = online.write_stream(tmp_path, clips, labels, "night", "blocks", 0)
    assert (np.diff(stream.labels) != 0).sum() == 10
    assert sorted(stream.labels) == labels.tolist()
    with av.open(str(stream.path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 22 * 25


def test_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "LIGHTS", ("day", "night"))
    monkeypatch.setattr(online, "ORDERS", ("blocks",))
    *_, day, night, seconds = online.study(["demo/uniformer_b32_k600"], [0], 1)
    for line, light in ((day, "day"), (night, "night")):
        cells = line.strip("| ").split(" | ")
        assert cells[:3] == ["demo/uniformer_b32_k600", light, "blocks"]
        fixed, _, followed, gain = map(float, cells[3:])
        assert gain == pytest.approx(followed - fixed, abs=0.1)
        # Better than chance by far, day and night.
        assert followed > 30
    assert " s of a processor" in seconds
