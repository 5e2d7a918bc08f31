"""Results and pseudo-labels that version 0.1 wrote."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np

from nightcrawler.data.lists import read_pseudo
from nightcrawler.pseudo.labels import read_labels
from nightcrawler.pseudo.predictions import read_results
from nightcrawler.pseudo.results_metadata import read_metadata
from nightcrawler.utils.io import sha256_file
from tests import tiny
from tests.compat.files import PSEUDO, RESULTS, RUN, expected


def test_results_are_read() -> None:
    found = read_results(RESULTS)
    before = expected()["results"]
    assert found.names == before["names"]
    assert found.labels.tolist() == before["labels"]
    assert found.status == before["status"]
    assert found.num_clips.tolist() == before["num_clips"]
    assert (found.logits.dtype, found.probs.dtype) == (np.float32, np.float32)
    assert found.logits.tolist() == before["logits"]
    assert hashlib.sha256(found.probs.tobytes()).hexdigest() == before["probs_sha256"]
    assert found.meta == before["meta"]
    latest = RUN / "checkpoints/checkpoint_latest.pyth"
    assert found.meta["checkpoint_sha256"] == sha256_file(latest)


def test_pseudo_labels_and_their_metadata_are_read(tmp_path: Path) -> None:
    found = read_metadata(PSEUDO)
    assert (found["file"], found["version"], found["labels"]) == (
        "stage1.csv",
        "0.1.0",
        "label-free",
    )
    assert found["sha256"] == sha256_file(PSEUDO)
    labels = read_labels(PSEUDO)
    assert len(labels) == tiny.NUM_DARK + tiny.NUM_ARID
    data = tiny.build_data(tmp_path / "data")
    path = Path(shutil.copy(PSEUDO, data / "stage1.csv"))
    items = read_pseudo(path, [data / "dark_train/Train"], tiny.NUM_CLASSES)
    assert {item.name: item.label for item in items} == labels
    rows = [line.split(",")[2:] for line in PSEUDO.read_text().splitlines()]
    np.testing.assert_allclose(
        [item.probs for item in items], np.array(rows, np.float64), rtol=1e-6
    )
