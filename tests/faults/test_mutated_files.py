"""Files of each kind with bytes changed, cut out or put in: read, or refused in one line."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nightcrawler.data.lists import read_list, read_pseudo
from nightcrawler.models.formats import read_weights
from nightcrawler.pseudo.predictions import read_results
from nightcrawler.pseudo.results_metadata import read_metadata
from nightcrawler.pseudo.vote_recipe import read_vote_recipe
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.safetensors_files import safetensors_bytes
from nightcrawler.workflow.task_state import DONE, TaskState, read_state, write_state
from tests.paths import ROOT
from tests.pseudo.test_predictions import some

ROUNDS = 200
PIECES = [b"null", b"[]", b"{}", b"-1", b"NaN", b"1e999", b"\xff", b"\0", b'"', b"\n", b",", b":"]
LIST = "Walk/a.mp4,0\nRun/b.mp4,1\nRun/c.mp4,1\n"
PSEUDO = "Walk/a.mp4,0,0.7,0.3\nRun/b.mp4,1,0.1,0.9\n"
WEIGHTS = {"model_state": {"head.weight": torch.ones(3, 4), "head.bias": torch.zeros(3)}}


def mutated(whole: bytes, rng: random.Random) -> bytes:
    """Return the bytes after one to four changes at random places."""
    content = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(content) + 1)
        change = rng.choice(["byte", "piece", "cut", "double", "end"])
        if change == "byte" and start < len(content):
            content[start] = rng.randrange(256)
        elif change == "piece":
            content[start : start + rng.randrange(6)] = rng.choice(PIECES)
        elif change == "cut":
            del content[start : start + rng.randrange(20)]
        elif change == "double":
            content[start:start] = content[start : start + rng.randrange(40)]
        elif change == "end" and rng.random() < 0.2:
            del content[start:]
    return bytes(content)


def make(kind: str, path: Path) -> None:
    """Write a whole file of a kind."""
    if "results" in kind:
        some().save(path)
    elif kind == "state":
        write_state(path, TaskState(DONE, "k", {"a": "1"}, {"b": "2"}, ["x"], 1.5))
    elif kind == "metadata":
        path.with_name("out.csv").write_text(LIST)
        path.write_text(json.dumps({"file": "out.csv", "labels": "none", "sha256": "0"}))
    elif kind in ("list", "pseudo"):
        for name in ("Walk/a.mp4", "Run/b.mp4", "Run/c.mp4"):
            (path.parent / name).parent.mkdir(exist_ok=True)
            (path.parent / name).touch()
        path.write_text(LIST if kind == "list" else PSEUDO)
    elif kind == "safetensors":
        save_file(WEIGHTS["model_state"], path, {"class_names": '["a", "b"]'})
    elif kind == "safetensors of ours":
        path.write_bytes(safetensors_bytes(WEIGHTS["model_state"], {"class_names": '["a", "b"]'}))
    elif kind == "recipe":
        path.write_bytes((ROOT / RECIPE).read_bytes())
    else:
        torch.save(WEIGHTS, path, _use_new_zipfile_serialization=kind == "zip weights")


RECIPE = "configs/vote/ug2_2022.yaml"
READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "results": ("a.npz", read_results),
    "published results": ("a.pkl", read_results),
    "state": ("a.json", read_state),
    "metadata": ("out.json", lambda path: read_metadata(path.with_name("out.csv"))),
    "list": ("a.csv", lambda path: read_list(path, [path.parent], 2)),
    "pseudo": ("a.csv", lambda path: read_pseudo(path, [path.parent], 2)),
    "recipe": ("a.yaml", read_vote_recipe),
    "zip weights": ("a.pyth", read_weights),
    "legacy weights": ("a.pyth", read_weights),
    "safetensors": ("a.safetensors", read_weights),
    "safetensors of ours": ("a.safetensors", read_weights),
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.timeout(60)
def test_mutated_files_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    name, read = READERS[kind]
    path = tmp_path / name
    make(kind, path)
    whole = path.read_bytes()
    rng = random.Random(kind)
    faults: list[str] = []
    for number in range(ROUNDS):
        path.write_bytes(mutated(whole, rng))
        try:
            read(path)
        except UserError as error:
            # Lists and recipes name each wrong row in a line of its own.
            if not str(error).strip() or "Traceback" in str(error):
                faults.append(f"{number}: {error!r}")
        except Exception as error:
            faults.append(f"{number}: {type(error).__name__}: {str(error)[:100]}")
    assert not faults, f"{len(faults)} of {ROUNDS}: " + "; ".join(faults[:8])
