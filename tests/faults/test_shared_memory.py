"""A batch that cannot pass through shared memory is told in seconds, and no video is blamed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.engine.build import build_trainer
from nightcrawler.utils.errors import UserError
from tests import tiny

WITH_WORKER = ("DATA_LOADER.NUM_WORKERS", 1, "DATA_LOADER.TIMEOUT_SEC", 600)


class CannotTravel:
    """A value that no process can hand to another."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space")


def test_a_failure_to_hand_over_is_passed_on(data: Path, tmp_path: Path) -> None:
    trainer = build_trainer(tiny.config(data, tmp_path, *WITH_WORKER))
    loader = trainer.stream_losses[0].stream.loader
    collate = loader.collate_fn
    object.__setattr__(loader, "collate_fn", lambda rows: {**collate(rows), "x": CannotTravel()})
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        trainer.fit()
    assert time.monotonic() - start < 60
    text = str(caught.value)
    assert "could not hand its batch over" in text
    assert "unable to allocate shared memory" in text
    assert text.count("--shm-size") == 1
    assert "were due" not in text
    assert len(text.splitlines()) == 1


def test_a_worker_that_is_killed_is_noticed_long_before_the_timeout(
    data: Path, tmp_path: Path
) -> None:
    trainer = build_trainer(tiny.config(data, tmp_path, *WITH_WORKER))
    dataset = trainer.stream_losses[0].stream.loader.dataset
    dataset._load = lambda index, epoch: os.kill(os.getpid(), 9)  # type: ignore[attr-defined]
    start = time.monotonic()
    with pytest.raises(UserError, match=r"(exited unexpectedly|killed by signal)"):
        trainer.fit()
    assert time.monotonic() - start < 60


def test_in_a_container_with_small_shared_memory(data: Path, tmp_path: Path) -> None:
    mount = "mount -t tmpfs -o size=64k tmpfs /dev/shm"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    code = (
        "import sys; from pathlib import Path; from tests import tiny;"
        "from nightcrawler.engine.build import build_trainer;"
        f"build_trainer(tiny.config(Path({str(data)!r}), Path({str(tmp_path)!r}),"
        f" *{WITH_WORKER!r}, 'DATA.TRAIN_CROP_SIZE', 96)).fit()"
    )
    start = time.monotonic()
    process = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{mount} && exec "$0" -c "$1"', sys.executable, code],
        capture_output=True,
        text=True,
        env=tiny.environment(),
        timeout=300,
    )
    assert time.monotonic() - start < 120
    assert process.returncode
    last = process.stderr.strip().splitlines()[-1]
    assert "/dev/shm" in last
    assert "were due" not in last or "shared memory" in last
