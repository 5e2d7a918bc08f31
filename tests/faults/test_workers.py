"""Workers that are killed, hang or fail, in training and in evaluation: one message that names the videos."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling

from nightcrawler.data.batch_sampler import SampleKey
from nightcrawler.data.build import build_eval_set
from nightcrawler.data.dataset import ClipDataset
from nightcrawler.engine.batches import iterate_batches
from nightcrawler.engine.build import build_evaluator, build_trainer
from nightcrawler.models.build import build_model
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from tests import tiny

WITH_WORKER = (
    "DATA_LOADER.NUM_WORKERS",
    1,
    "DATA_LOADER.PREFETCH_FACTOR",
    1,
    "DATA_LOADER.TIMEOUT_SEC",
    2,
)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    """Wait for ever: the loader kills the worker."""
    while True:
        signal.pause()


def fail() -> None:
    raise RuntimeError("the decoder has a fault")


FAULTS: dict[str, tuple[Callable[[], None], str]] = {
    "killed": (die, "killed"),
    "hung": (hang, "timed out after 2 seconds"),
    "failed": (fail, "RuntimeError: the decoder has a fault"),
}


def spoil(dataset: Any, name: str, fault: Callable[[], None]) -> None:
    """Let the fault happen when a sample is asked for: errors in loading cost one video only."""

    class Spoilt(ClipDataset):
        def __getitem__(self, key: SampleKey) -> dict[str, Any]:
            if self.items[key.index].name == name:
                fault()
            return super().__getitem__(key)

    dataset.__class__ = Spoilt


def assert_one_message(error: UserError, title: str, reason: str, names: list[str]) -> None:
    text = str(error)
    assert len(text.splitlines()) == 1
    assert text.startswith(f"{title}: loading a batch failed: ")
    assert reason in text
    assert text.endswith(f"the videos that were due: {', '.join(names)}")


@pytest.mark.parametrize("fault", FAULTS)
def test_in_training(data: Path, tmp_path: Path, fault: str) -> None:
    """In the second step's first micro-batch; the steps before it were taken."""
    trainer = build_trainer(tiny.config(data, tmp_path, *WITH_WORKER))
    stream = trainer.stream_losses[0].stream
    second = stream.sampler.epoch_items(0)[stream.sampler.batch_size :]
    names = [stream.items[index].name for index in second[:2]]
    assert isinstance(stream.loader.dataset, ClipDataset)
    spoil(stream.loader.dataset, names[1], FAULTS[fault][0])
    with pytest.raises(UserError) as caught:
        trainer.fit()
    assert_one_message(caught.value, "stream 'labelled'", FAULTS[fault][1], names)
    assert [(row["epoch"], row["step"]) for row in tiny.metrics(tmp_path, "train")] == [(1, 1)]


def test_a_death_waits_after_a_loader_that_was_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a loader leaves torch's handler behind, which would raise wherever the main thread is."""
    monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)
    assert list(DataLoader([1], num_workers=1, batch_size=None)) == [1]
    assert getattr(signal.getsignal(signal.SIGCHLD), "__module__", "") == signal_handling.__name__
    assert list(
        iterate_batches(DataLoader([2], num_workers=1, batch_size=None), [], "numbers")
    ) == [2]
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL


@pytest.mark.parametrize("fault", ["killed", "failed"])
def test_in_evaluation(data: Path, tmp_path: Path, fault: str) -> None:
    cfg = tiny.config(data, tmp_path, *WITH_WORKER)
    eval_set = build_eval_set(cfg, "val_dry", "VAL", [(1, 1)])
    spoil(eval_set.loader.dataset, "v2.mp4", FAULTS[fault][0])
    evaluator = build_evaluator(cfg, distributed.choose_device("cpu"))
    with pytest.raises(UserError) as caught:
        evaluator.run(build_model(cfg), eval_set, tiny.NUM_CLASSES, "val val_dry")
    assert_one_message(caught.value, "val val_dry", FAULTS[fault][1], ["v2.mp4", "v3.mp4"])


def test_in_adaptation(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = build_trainer(tiny.config(data, tmp_path, *WITH_WORKER))
    get = ClipDataset.__getitem__

    def spoilt(self: ClipDataset, key: SampleKey) -> dict[str, Any]:
        if self.items[key.index].name == "Run/Run_1_1.mp4":
            fail()
        return get(self, key)

    monkeypatch.setattr(ClipDataset, "__getitem__", spoilt)
    with pytest.raises(UserError, match=r"adaptation: .*the decoder has a fault.*Run/Run_1_1\.mp4"):
        trainer.fit()
