"""Saves that are killed, damaged, or find no room: a valid checkpoint always loads, and a bad one never does."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nightcrawler.engine import bad_videos, checkpoint_files, checkpointer
from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.checkpoint_files import (
    BEST,
    LATEST,
    PREVIOUS,
    find_resume,
    load_checkpoint,
    save_checkpoint,
    save_latest,
    sidecar,
)
from nightcrawler.engine.trainer import Trainer
from nightcrawler.engine.writers import group, jsonl
from nightcrawler.utils.errors import UserError
from tests import tiny
from tests.faults.ranks import stop_after
from tests.waiting import wait_until


def state(number: int, size: int = 1000) -> dict[str, Any]:
    return {"model_state": {"w": torch.full((size,), float(number))}, "epoch": number}


def save_for_ever(folder: Path, first: int, done: Any, keep_last: int) -> None:
    for number in range(first, first + 100_000):
        save_latest(folder, state(number, 300_000), keep_last)
        save_checkpoint(folder / BEST, state(number, 300_000))
        done.value = number


@pytest.mark.parametrize("keep_last", [1, 3])
def test_killed_at_any_moment(tmp_path: Path, keep_last: int) -> None:
    """Twenty times over both cases; the process is a copy of this one, so that it saves at once."""
    context, rng = multiprocessing.get_context("fork"), random.Random(keep_last)
    done = context.Value("q", 0)
    for _ in range(10):
        before = done.value
        process = context.Process(
            target=save_for_ever, args=(tmp_path, before + 1, done, keep_last)
        )
        process.start()
        wait_until(lambda before=before: done.value > before, timeout=60, period=0.001)
        # Not synchronisation: the moment of the kill is drawn, anywhere within a save.
        time.sleep(rng.uniform(0, 0.08))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        found = find_resume(tmp_path)
        assert found is not None
        path, content = found
        assert path == tmp_path / LATEST
        assert content["epoch"] in (done.value, done.value + 1)
        assert bool((content["model_state"]["w"] == content["epoch"]).all())
        assert load_checkpoint(tmp_path / BEST)["epoch"] in (done.value, done.value + 1)
        for older in filter(Path.exists, checkpoint_files.older_names(tmp_path, keep_last - 1)):
            assert load_checkpoint(older)["epoch"] <= content["epoch"]
        checkpoint_files.remove_leftovers(tmp_path)
        assert not [
            name for name in os.listdir(tmp_path / "checkpoints") if name.endswith("pyth.tmp")
        ]


@pytest.mark.parametrize("with_sidecar", [True, False])
def test_truncated_anywhere(tmp_path: Path, with_sidecar: bool) -> None:
    path = tmp_path / "c.pyth"
    save_checkpoint(path, state(1))
    whole = path.read_bytes()
    if not with_sidecar:
        sidecar(path).unlink()
    for length in [*range(0, len(whole), len(whole) // 50), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"c\.pyth"):
            load_checkpoint(path)


def test_a_hundred_flipped_bits(tmp_path: Path) -> None:
    """In the latest and in the one before: none loads, and the run says so rather than starting anew."""
    save_latest(tmp_path, state(1))
    save_latest(tmp_path, state(2))
    paths = [tmp_path / LATEST, tmp_path / PREVIOUS]
    whole, rng, loaded = [path.read_bytes() for path in paths], random.Random(0), 0
    for _ in range(100):
        for path, content in zip(paths, whole, strict=True):
            damaged = bytearray(content)
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
        with pytest.raises(UserError, match="no checkpoint of this run can be read"):
            loaded += find_resume(tmp_path) is not None
    assert loaded == 0


def test_a_damaged_sidecar_does_not_end_the_checking(tmp_path: Path) -> None:
    """Cut short or with a bit flipped, it never lets bytes through that were not written."""
    path = tmp_path / "c.pyth"
    save_checkpoint(path, state(1))
    whole, hashes, rng = path.read_bytes(), sidecar(path).read_bytes(), random.Random(0)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    path.write_bytes(damaged)
    flipped = [
        bytes(b ^ (1 << rng.randrange(8)) * (i == n) for i, b in enumerate(hashes))
        for n in range(len(hashes))
    ]
    for content in [*(hashes[:length] for length in range(len(hashes))), *flipped]:
        sidecar(path).write_bytes(content)
        with pytest.raises(UserError, match=r"c\.pyth: damaged"):
            load_checkpoint(path)


def test_the_last_ones_are_kept_in_order(tmp_path: Path) -> None:
    names = [
        "checkpoint_latest",
        "checkpoint_previous",
        "checkpoint_previous_2",
        "checkpoint_previous_3",
    ]
    for number in range(1, 7):
        save_latest(tmp_path, state(number), keep_last=4)
    folder = tmp_path / "checkpoints"
    assert [load_checkpoint(folder / f"{name}.pyth")["epoch"] for name in names] == [6, 5, 4, 3]
    for name in names:
        assert len(sidecar(folder / f"{name}.pyth").read_text().splitlines()) == 1
    for count, name in enumerate(names[:-1]):
        (folder / f"{name}.pyth").write_bytes(b"damage")
        found = find_resume(tmp_path)
        assert found is not None
        assert (found[0].stem, found[1]["epoch"]) == (names[count + 1], 5 - count)
    save_latest(tmp_path, state(7), keep_last=1)
    assert sorted(os.listdir(folder)) == ["checkpoint_latest.pyth", "checkpoint_latest.pyth.sha256"]


def test_without_hard_links_the_older_ones_are_kept_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refused)
    for number in range(1, 5):
        save_latest(tmp_path, state(number), keep_last=3)
    folder = tmp_path / "checkpoints"
    found = {path.stem: load_checkpoint(path)["epoch"] for path in folder.glob("*.pyth")}
    assert found == {"checkpoint_latest": 4, "checkpoint_previous": 3, "checkpoint_previous_2": 2}


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """The system writes no file beyond 100 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    for number in (1, 2):
        save_latest(tmp_path, state(number))
    files = {path: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()}
    with (
        full_disk(),
        pytest.raises(
            checkpoint_files.SaveError, match=r"checkpoint_latest\.pyth: not saved \(File too large"
        ),
    ):
        save_latest(tmp_path, state(3))
    assert {path: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()} == files


def failing(monkeypatch: pytest.MonkeyPatch, epochs: set[int]) -> list[str]:
    """Let every save of these epochs find a full disk; returns the warnings that are given."""
    warnings: list[str] = []
    monkeypatch.setattr(
        checkpointer.logger, "warning", lambda text, *args: warnings.append(text % args)
    )
    write = checkpoint_files._write

    def checked(content: dict[str, Any], writer: Any) -> None:
        if content["epoch"] in epochs:
            with full_disk():
                write(content, writer)
                writer.flush()
        write(content, writer)

    monkeypatch.setattr(checkpoint_files, "_write", checked)
    return warnings


def quick(data: Path, out: Path, *overrides: Any) -> Trainer:
    return build_trainer(
        tiny.config(data, out, "ADAPT.NAME", "none", "SOLVER.MAX_EPOCH", 4, *overrides)
    )


def test_training_goes_on_where_saves_fail(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor the latest before epoch 3 is validated. The best of epoch 2 is lost, so epoch 3, better than epoch 1 though
    worse than it, becomes the best on disk."""
    quick(data, tmp_path / "whole").fit()
    warnings = failing(monkeypatch, {2})
    top1 = iter([10.0, 40.0, 30.0, 20.0])
    monkeypatch.setattr(Trainer, "validate", lambda self, *_: {"val_dark": {"top1": next(top1)}})
    best = quick(data, tmp_path / "parts", "TRAIN.MAX_FAILED_SAVES", 4).fit()
    lost = [text.split(": ")[0].rsplit("/", 1)[1] for text in warnings]
    assert sorted(lost) == ["best.pyth", *["checkpoint_latest.pyth"] * 2]
    assert (best["top1"], best["epoch"]) == (30.0, 3)
    assert load_checkpoint(tmp_path / "parts" / BEST)["best"] == best
    left, right = (
        load_checkpoint(tmp_path / name / LATEST)["model_state"] for name in ("whole", "parts")
    )
    assert not tiny.differences(left, right)
    assert (tmp_path / "parts/DONE").is_file()


def test_curves_and_lists_that_find_no_room_are_lost_and_the_run_is_not(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full from the start until epoch 3 is validated, with a video that cannot be used."""
    own, disk = tmp_path / "data", contextlib.ExitStack()
    shutil.copytree(data, own)
    tiny.damage(own / "labeled_train/Train/b0.mp4")
    more = ("TENSORBOARD.ENABLE", True, "TRAIN.MAX_FAILED_SAVES", 9)
    trainer, warnings = quick(own, tmp_path / "run", *more), []
    for module in (jsonl, group, bad_videos):
        monkeypatch.setattr(
            module.logger, "warning", lambda text, *args: warnings.append(text % args)
        )

    def validate(self: Trainer, *_: Any) -> dict[str, Any]:
        if self.epoch == 3:
            disk.close()
        return {"val_dark": {"top1": float(self.epoch)}}

    monkeypatch.setattr(Trainer, "validate", validate)
    with disk:
        disk.enter_context(full_disk())
        assert trainer.fit()["epoch"] == 4
    ends = "tensorboard ends here, the training goes on"
    for lost in ("bad.csv: not written", "metrics.jsonl is lost", ends):
        assert [text for text in warnings if f"{lost} (File too large)" in text], lost
    assert len([text for text in warnings if "tensorboard" in text]) == 1
    assert [row["epoch"] for row in tiny.metrics(tmp_path / "run", "train")] == [4, 4]


def test_too_many_failed_saves_in_a_row_end_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, {2, 3})
    monkeypatch.setattr(
        Trainer, "validate", lambda self, *_: {"val_dark": {"top1": float(self.epoch)}}
    )
    with pytest.raises(
        UserError,
        match=r"latest\.pyth: not saved.*5 saves in a row failed, TRAIN\.MAX_FAILED_SAVES is 5",
    ):
        quick(data, tmp_path, "TRAIN.MAX_FAILED_SAVES", 5).fit()
    found = load_checkpoint(tmp_path / LATEST)
    assert (found["epoch"], found["step"]) == (1, 2)
    assert load_checkpoint(tmp_path / BEST)["best"]["epoch"] == 1
    assert not (tmp_path / "DONE").exists()


def test_the_last_save_and_that_of_a_stop_must_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, {0, 4})
    stopped = quick(data, tmp_path / "stopped")
    stop_after(stopped, 1)
    with pytest.raises(UserError, match=r"checkpoint_latest\.pyth: not saved"):
        stopped.fit()
    assert not (tmp_path / "stopped/PREEMPTED").exists()
    with pytest.raises(UserError, match=r"not saved"):
        quick(data, tmp_path / "ended", "TRAIN.EVAL_PERIOD", 4, "TRAIN.MAX_FAILED_SAVES", 9).fit()
    assert not (tmp_path / "ended/DONE").exists()


def test_the_best_is_not_touched_by_worse_epochs_nor_by_nan(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents: list[bytes] = []
    figures = iter([float("nan"), 50.0, 20.0, float("nan")])

    def validate(self: Trainer, *_: Any) -> dict[str, Any]:
        path = tmp_path / BEST
        contents.append(path.read_bytes() if path.exists() else b"")
        return {"val_dark": {"top1": next(figures)}}

    monkeypatch.setattr(Trainer, "validate", validate)
    trainer = quick(data, tmp_path)
    stop_after(trainer, 7)
    with pytest.raises(Exception, match="epoch 4 step 1"):
        trainer.fit()
    kept = (tmp_path / BEST).read_bytes()
    assert quick(data, tmp_path).fit()["epoch"] == 2
    assert contents[:2] == [b"", b""]
    assert contents[2:] == [kept, kept]
    assert (tmp_path / BEST).read_bytes() == kept
