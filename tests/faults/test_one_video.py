"""An error that nobody expects, over one video: training, adaptation and tests go on without that one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import nightcrawler.data.video.decode as decode_module
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.ensemble import build_ensemble
from nightcrawler.predict.trust import TRUST
from nightcrawler.prepare.audit import audit
from nightcrawler.prepare.sources import read_source
from nightcrawler.pseudo.predictions import read_results
from tests import tiny

pytestmark = pytest.mark.fault
ODD = "1.mp4"
SHORT = ("SOLVER.MAX_EPOCH", 1, "SOLVER.WARMUP_EPOCHS", 0.5)


@pytest.fixture
def odd_video(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder fails over every video `1.mp4` as it never should."""
    real = decode_module.decode

    def decode(path: str, indices: Sequence[int], *given: Any, **more: Any) -> Any:
        if Path(path).name == ODD:
            raise RuntimeError("20 GB asked for at once")
        return real(path, indices, *given, **more)

    monkeypatch.setattr(decode_module, "decode", decode)


@pytest.mark.usefixtures("odd_video")
def test_training_adaptation_and_test_lose_one_video(tmp_path: Path) -> None:
    data = tiny.build_data(tmp_path / "data")
    out = tmp_path / "run"
    # The configuration adapts BatchNorm to the dark clips.
    assert tiny.run_net("train", data, out, *SHORT) == 0
    rows = (out / "bad.csv").read_text().splitlines()[1:]
    assert rows
    assert all("RuntimeError: 20 GB asked for at once" in row for row in rows)
    assert {row.split(",")[1] for row in rows} == {ODD}
    assert "adapt" in {row.split(",")[0] for row in rows}
    assert tiny.run_net("test", data, out, *SHORT) == 3
    (results,) = out.rglob("*.npz")
    found = read_results(results)
    statuses = dict(zip(found.names, found.status, strict=True))
    assert statuses.pop(ODD) == "error: RuntimeError: 20 GB asked for at once (load)"
    assert set(statuses.values()) == {"ok"}


@pytest.mark.usefixtures("odd_video")
def test_the_audit_loses_one_video(tmp_path: Path) -> None:
    data = tiny.build_data(tmp_path / "data")
    rows = audit([read_source(data / "Test")], tmp_path / "audit", 1)
    statuses = {Path(row.path).name: row.status for row in rows}
    assert statuses.pop(ODD) == "bad"
    assert set(statuses.values()) == {"ok"}


def test_python_code_that_predicts_loses_one_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny.build_data(tmp_path / "data")
    out = tmp_path / "run"
    assert tiny.run_net("train", data, out, *SHORT) == 0
    ensemble = build_ensemble([out], None, Path(), PredictOptions(device="cpu"))
    real = type(ensemble).frames

    def frames(self: Any, item: Any, pictures: Any) -> Any:
        if item.name == ODD:
            raise RuntimeError("an odd picture")
        return real(self, item, pictures)

    monkeypatch.setattr(type(ensemble), "frames", frames)
    results = ensemble.predict(data / "Test", window_sec=0.5)
    statuses = {result.name: result.status for result in results}
    assert statuses.pop(ODD) == "error: RuntimeError: an odd picture (predict)"
    assert set(statuses.values()) <= set(TRUST)
