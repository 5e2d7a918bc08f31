"""Checkpoints: whole or absent, verified, never code."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from nightcrawler.engine import checkpoint_files
from nightcrawler.engine.checkpoint_files import (
    find_resume,
    load_checkpoint,
    save_checkpoint,
    save_latest,
    sidecar,
)
from nightcrawler.utils.errors import UserError


def state(value: float = 1.0) -> dict[str, Any]:
    return {
        "model_state": {"w": torch.full((64,), value)},
        "epoch": int(value),
        "best": {"top1": 5.0},
        "cfg": "A: 1",
    }


def test_round_trip_and_sidecar(tmp_path: Path) -> None:
    digest = save_checkpoint(tmp_path / "c.pyth", state())
    assert sidecar(tmp_path / "c.pyth").read_text() == f"{digest}  c.pyth\n"
    found = load_checkpoint(tmp_path / "c.pyth")
    assert torch.equal(found["model_state"]["w"], torch.ones(64))
    assert found["best"] == {"top1": 5.0}


def test_no_bit_flip_and_no_truncation_loads(tmp_path: Path) -> None:
    path = tmp_path / "c.pyth"
    save_checkpoint(path, state())
    whole = path.read_bytes()
    rng = random.Random(0)
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            load_checkpoint(path)
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError):
            load_checkpoint(path)


def test_truncations_without_a_sidecar_are_errors_too(tmp_path: Path) -> None:
    path = tmp_path / "c.pyth"
    save_checkpoint(path, state())
    whole = path.read_bytes()
    sidecar(path).unlink()
    for length in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError):
            load_checkpoint(path)


class Attack:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (os.system, (f"touch {self.trace}",))


@pytest.mark.parametrize("new_container", [True, False])
def test_code_in_a_checkpoint_never_runs(tmp_path: Path, new_container: bool) -> None:
    path, trace = tmp_path / "evil.pyth", tmp_path / "ran"
    torch.save({"model_state": Attack(trace)}, path, _use_new_zipfile_serialization=new_container)
    with pytest.raises(UserError, match="plain types"):
        load_checkpoint(path)
    assert not trace.exists()


def test_resume_takes_the_latest_and_falls_back_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(
        checkpoint_files.logger, "warning", lambda text, *args: warnings.append(text % args)
    )
    assert find_resume(tmp_path) is None
    save_latest(tmp_path, state(1))
    save_latest(tmp_path, state(2))
    path, found = find_resume(tmp_path)
    assert (path.name, found["epoch"]) == ("checkpoint_latest.pyth", 2)
    with open(tmp_path / checkpoint_files.LATEST, "r+b") as file:
        file.seek(300)
        file.write(b"????")
    path, found = find_resume(tmp_path)
    assert (path.name, found["epoch"]) == ("checkpoint_previous.pyth", 1)
    assert "checkpoint_latest.pyth" in warnings[0]
    assert "checkpoint_previous.pyth" in warnings[0]
    (tmp_path / checkpoint_files.PREVIOUS).write_bytes(b"")
    with pytest.raises(UserError, match="remove them"):
        find_resume(tmp_path)


def test_a_save_that_fails_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.pyth"
    save_checkpoint(path, state(1))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint_files._HashingWriter, "write", full)
    with pytest.raises(checkpoint_files.SaveError, match="No space left"):
        save_checkpoint(path, state(2))
    monkeypatch.undo()
    assert load_checkpoint(path)["epoch"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.pyth", "c.pyth.sha256"]
