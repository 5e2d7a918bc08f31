"""Pickles that would run code, wherever a file is read: refused, and nothing of them has run."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nightcrawler.engine import checkpoint_files
from nightcrawler.engine.resume import start_from_cfg, weights_to_test_from_cfg
from nightcrawler.models.build import build_model
from nightcrawler.models.formats import read_weights
from nightcrawler.pseudo.predictions import read_results
from nightcrawler.utils.errors import UserError
from tests import tiny


class Attack:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (os.system, (f"touch {self.trace}",))


def new_container(path: Path, content: Any) -> None:
    torch.save(content, path)


def old_container(path: Path, content: Any) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def bare_pickle(path: Path, content: Any) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def text_pickle(path: Path, content: Any) -> None:
    path.write_bytes(pickle.dumps(content, protocol=0))


def forged_container(path: Path, content: Any) -> None:
    """A checkpoint of tensors whose pickle was put in place of the real one."""
    whole = io.BytesIO()
    torch.save({"model_state": {"w": torch.zeros(3)}}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            evil = name.endswith("data.pkl")
            target.writestr(name, pickle.dumps(content, protocol=2) if evil else source.read(name))


WRITERS = (new_container, old_container, bare_pickle, text_pickle, forged_container)


def resume(path: Path) -> object:
    latest = path.parent / checkpoint_files.LATEST
    latest.parent.mkdir(exist_ok=True)
    latest.write_bytes(path.read_bytes())
    return checkpoint_files.find_resume(path.parent)


def start(path: Path, *overrides: Any) -> object:
    cfg = tiny.config(
        path.parent, path.parent / "out", "TRAIN.CHECKPOINT_FILE_PATH", path, *overrides
    )
    return start_from_cfg(cfg, build_model(cfg))


def go_on(path: Path) -> object:
    return start(path, "TRAIN.CHECKPOINT_EPOCH_RESET", False)


def test_weights(path: Path) -> object:
    cfg = tiny.config(path.parent, path.parent / "out", "TEST.CHECKPOINT_FILE_PATH", path)
    return weights_to_test_from_cfg(cfg, build_model(cfg))


test_weights.__test__ = False  # type: ignore[attr-defined]
READERS: tuple[Callable[[Path], object], ...] = (
    checkpoint_files.load_checkpoint,
    read_weights,
    read_results,
    resume,
    start,
    go_on,
    test_weights,
)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_nothing_runs(
    tmp_path: Path, writer: Callable[[Path, Any], None], reader: Callable[[Path], object]
) -> None:
    trace = tmp_path / "ran"
    contents = (
        {"model_state": Attack(trace)},
        Attack(trace),
        {"model_state": {"w": torch.zeros(2)}, "cfg": Attack(trace)},
    )
    for number, content in enumerate(contents):
        for suffix in (".pyth", ".pkl"):
            path = tmp_path / f"evil{number}{suffix}"
            writer(path, content)
            with pytest.raises(UserError, match=r"evil|checkpoint_latest") as caught:
                reader(path)
            assert "weights_only=False" not in str(caught.value)
    assert not trace.exists()


def test_the_attack_would_work(tmp_path: Path) -> None:
    """Else nothing above means anything."""
    for writer in WRITERS:
        trace, path = tmp_path / f"ran_{writer.__name__}", tmp_path / "evil.pkl"
        writer(path, Attack(trace))
        if writer in (bare_pickle, text_pickle):
            pickle.loads(path.read_bytes())
        else:
            torch.load(path, weights_only=False)
        assert trace.exists()
