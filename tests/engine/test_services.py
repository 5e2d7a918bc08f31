"""Trackio and Weights & Biases with the real packages, on this machine only: a run continued, a service that dies."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.engine.trainer import Preempted, Trainer
from tests import tiny
from tests.engine.test_resume import stop_after
from tests.engine.test_writers import crash_after, start
from tests.paths import ROOT
from tests.waiting import wait_until

# LevelDB's log: blocks of records, each with checksum, length and kind in front.
BLOCK, HEADER, WHOLE, LAST = 32768, 7, 1, 4
PLOTTED = ("loss", "lr", "grad_norm")


def stopped_and_resumed(data: Path, out: Path, name: str) -> list[Trainer]:
    """A run that was stopped in its second epoch, crashed a step later, and went on to its end."""
    trainers = [start(data, out, "WRITERS", f"[{name}]")]
    stop_after(trainers[0], 3)
    with pytest.raises(Preempted):
        trainers[0].fit()
    trainers.append(start(data, out, "WRITERS", f"[{name}]"))
    crash_after(trainers[1], 1)
    with pytest.raises(KeyboardInterrupt):
        trainers[1].fit()
    trainers.append(start(data, out, "WRITERS", f"[{name}]"))
    trainers[2].fit()
    return trainers


def expected_points(out: Path) -> list[tuple[str, int, float]]:
    """Points that must be there once: name, place on its axis, value."""
    rows = tiny.metrics(out)
    points, steps = [], 0
    for row in rows:
        if row["kind"] == "train":
            steps += 1
            points += [(f"train/{name}", steps, row[name]) for name in PLOTTED]
        if row["kind"] == "val":
            points.append((f"val_{row['split']}/top1", row["epoch"], row["top1"]))
    return sorted(points)


def points_of(rows: list[dict[str, Any]]) -> list[tuple[str, int, float]]:
    """Read the same back of what a service wrote."""
    points = []
    for row in rows:
        for name, value in row.items():
            if name.startswith("train/") and name.split("/")[1] in PLOTTED:
                points.append((name, row["step"], value))
            if name.endswith("/top1"):
                points.append((name, row["epoch"], value))
    return sorted(points)


def assert_same_points(found: list[Any], expected: list[Any]) -> None:
    assert [point[:2] for point in found] == [point[:2] for point in expected]
    assert [p[2] for p in found] == pytest.approx([p[2] for p in expected])


def records(path: Path) -> Iterator[Any]:
    """Records of a run's file of Weights & Biases."""
    from wandb.proto import wandb_internal_pb2

    content, place, parts = path.read_bytes(), HEADER, b""
    assert content.startswith(b":W&B")
    while place < len(content):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + HEADER])
        parts += content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (WHOLE, LAST):
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs the extra `wandb`")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("HOME", str(tmp_path))
    # The service that another test of this process started.
    monkeypatch.delenv("WANDB_SERVICE", raising=False)
    # Its own file of settings must not come from the folder of the tests.
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))


@pytest.mark.slow
def test_weights_and_biases_offline_continues_one_run(
    data: Path, tmp_path: Path, offline: None
) -> None:
    out = tmp_path / "run"
    stopped_and_resumed(data, out, "wandb")
    rows, numbers, identities, settings, pictures = [], [], set(), {}, []
    for path in sorted((out / "wandb").glob("offline-run-*/*.wandb")):
        for record in records(path):
            if record.WhichOneof("record_type") == "run":
                identities.add(record.run.run_id)
                for item in record.run.config.update:
                    settings[item.key] = json.loads(item.value_json)
            if record.WhichOneof("record_type") == "history":
                items = {}
                for item in record.history.item:
                    name = item.key or "/".join(item.nested_key)
                    items[name] = json.loads(item.value_json)
                rows.append(items)
                numbers.append(items["_step"])
                pictures += [name for name in items if name.endswith("/clips/_type")]
    assert identities == {(out / "run_id").read_text().strip()}
    assert settings["SOLVER.BASE_LR"] == 1e-3
    assert pictures == ["val_val_dark/clips/_type"] * 2
    assert numbers == sorted(set(numbers))
    assert_same_points(points_of(rows), expected_points(out))


@pytest.mark.slow
def test_a_service_of_weights_and_biases_that_is_killed_stops_no_training(
    data: Path, tmp_path: Path, offline: None
) -> None:
    out = tmp_path / "run"
    long = ("WRITERS", "[wandb]", "SOLVER.MAX_EPOCH", 12, "TRAIN.EVAL_PERIOD", 12)
    command = [sys.executable, str(ROOT / "tools/run_net.py"), "train"]
    process = subprocess.Popen(
        [*command, *tiny.arguments(data, out, *long)],
        env=tiny.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until(lambda: (out / "metrics.jsonl").is_file(), timeout=120)
        children = subprocess.run(
            ["ps", "--ppid", str(process.pid), "-o", "pid=,args="],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        (service,) = [line for line in children if "wandb-core" in line]
        os.kill(int(service.split()[0]), signal.SIGKILL)
        shown, _ = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 0, shown
    assert (out / "DONE").is_file()
    assert len(tiny.metrics(out, "train")) == 24
    (said,) = [line for line in shown.splitlines() if "the training goes on" in line]
    assert "wandb ends here, the training goes on (" in said
    assert "Traceback" not in shown


def test_trackio_continues_one_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio", reason="needs the extra `trackio`")
    storage = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    for module in ("trackio.utils", "trackio.sqlite_storage", "trackio.media.utils"):
        # Its folder is settled when it is imported, which another test may have done.
        loaded = pytest.importorskip(module)
        for name, place in (("TRACKIO_DIR", "trackio"), ("MEDIA_DIR", "trackio/media")):
            if hasattr(loaded, name):
                monkeypatch.setattr(loaded, name, tmp_path / place)
    out = tmp_path / "run"
    stopped_and_resumed(data, out, "trackio")
    assert "rackio" not in capsys.readouterr().out
    (name,) = storage.get_runs("nightcrawler")
    assert name == f"{tmp_path.name}/run {(out / 'run_id').read_text().strip()}"
    rows = storage.get_logs("nightcrawler", name)
    assert_same_points(points_of(rows), expected_points(out))
    assert sum("val_val_dark/clips" in row for row in rows) == 2
    assert storage.get_run_config("nightcrawler", name)["SOLVER.BASE_LR"] == 1e-3
    assert trackio.__version__
