"""The least probability of a sure answer, from results whose right answers are counted by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.predict.calibrate import build_judge, known_results
from nightcrawler.predict.trust import Judge
from nightcrawler.pseudo.ensemble_recipe import EnsembleSpec
from nightcrawler.pseudo.predictions import Predictions

CLASSES = ("Run", "Sit", "Walk")
ALONE = EnsembleSpec({"a": ""}, ("probs",), ((1, 1),))
META = {"checkpoint_sha256": "abc", "class_names": list(CLASSES)}


def results(confidences: np.ndarray, right: np.ndarray) -> Predictions:
    """Return clips of class 0 that are answered by class 0 where right, else by class 1."""
    probs = np.repeat((1 - confidences)[:, None] / 2, 3, axis=1)
    probs[np.arange(len(probs)), np.where(right, 0, 1)] = confidences
    return Predictions(
        logits=np.log(probs).astype(np.float32),
        probs=probs.astype(np.float32),
        labels=np.zeros(len(probs), np.int64),
        names=[f"{row}.mp4" for row in range(len(probs))],
        num_clips=np.ones(len(probs), np.int64),
        status=["ok"] * len(probs),
        meta=dict(META),
    )


def test_the_threshold_is_the_lowest_that_is_right_often_enough() -> None:
    # 60 clips of at least 0.8 are right, below that every second one is.
    confidences = np.concatenate([np.linspace(0.99, 0.8, 60), np.linspace(0.79, 0.5, 60)])
    right = np.concatenate([np.ones(60, bool), np.arange(60) % 2 == 0])
    judge = build_judge([results(confidences, right)], ["a"], ALONE, dark=True)
    # Wilson's bound of n - w of n at z = 0.8416, by another way: the larger root of a quadratic.
    z = 0.8416212335729143
    lowest = 1.0
    for count in range(20, 121):
        share = right[:count].mean()
        roots = np.roots([1 + z * z / count, -(2 * share + z * z / count), share * share])
        if roots.real.min() >= 0.9:
            lowest = confidences[count - 1]
    assert judge.threshold == pytest.approx(lowest, abs=1e-6)
    assert 0.7 < lowest < 0.8
    assert "of val_dark that reach it are right" in judge.basis


def test_models_that_are_never_right_enough_are_never_sure() -> None:
    found = results(np.linspace(0.99, 0.5, 100), np.arange(100) % 2 == 0)
    judge = build_judge([found], ["a"], ALONE, dark=True)
    assert judge.threshold == math.inf
    assert judge.status(np.array([1.0, 0.0, 0.0]), 0) == "unsure"
    assert judge.about() == {"sure_from": None, "basis": judge.basis}


def test_the_threshold_is_that_of_the_mixture() -> None:
    confidences = np.linspace(0.99, 0.6, 50)
    good = results(confidences, np.ones(50, bool))
    bad = results(confidences, np.zeros(50, bool))
    both = EnsembleSpec({"a": "", "b": ""}, ("probs",) * 2, ((1, 1),) * 2, (0.9, 0.1))
    judge = build_judge([good, bad], ["a", "b"], both, dark=True)
    # All are right; the last has 0.9 * 0.6 + 0.1 * 0.2.
    assert judge.threshold == pytest.approx(0.56, abs=1e-6)


def test_without_results_of_every_model_a_lead_is_asked_for() -> None:
    found = results(np.linspace(0.99, 0.5, 50), np.ones(50, bool))
    both = EnsembleSpec({"a": "", "b": ""}, ("probs",) * 2, ((1, 1),) * 2)
    assert build_judge([found, None], ["a", "b"], both, dark=True) == Judge()
    # They are of clips that were lit, and say nothing about others.
    assert build_judge([found], ["a"], ALONE, dark=False) == Judge(dark=False)


def test_results_without_labels_calibrate_nothing(caplog: pytest.LogCaptureFixture) -> None:
    found = results(np.linspace(0.99, 0.5, 50), np.ones(50, bool))
    unknown = replace(found, labels=np.full(50, -1))
    assert build_judge([unknown], ["a"], ALONE, dark=True) == Judge()
    assert "val_dark: none of the 50 clips" in caplog.text


def test_results_must_be_of_the_checkpoint(tmp_path: Path) -> None:
    results(np.full(30, 0.9), np.ones(30, bool)).save(tmp_path / "val_darkx8x48x1x1.npz")
    checkpoint = tmp_path / "best.pyth"
    found = known_results(checkpoint, "abc", (1, 1), CLASSES)
    assert found is not None
    assert len(found.names) == 30
    assert known_results(tmp_path / "missing" / "best.pyth", "abc", (1, 1), CLASSES) is None
    assert known_results(checkpoint, "other", (1, 1), CLASSES) is None
    assert known_results(checkpoint, "abc", (3, 3), CLASSES) is None
    assert known_results(checkpoint, "abc", (1, 1), ("Run", "Walk", "Sit")) is None
    (tmp_path / "val_darkx8x48x1x1.npz").write_bytes(b"PK damaged")
    assert known_results(checkpoint, "abc", (1, 1), CLASSES) is None
