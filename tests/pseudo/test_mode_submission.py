"""The submission of one mode."""

from __future__ import annotations

import numpy as np
from scipy import special

from nightcrawler.pseudo.ensemble import join
from nightcrawler.pseudo.ensemble_recipe import EnsembleSpec
from nightcrawler.pseudo.label_switches import Switch
from nightcrawler.pseudo.vote import Mode, mode_submission
from tests.pseudo.made import made

TWO = EnsembleSpec({"a": "", "b": ""}, ("probs",) * 2, ((1, 3),) * 2)


def test_a_mode_mixes_switches_and_says_how_probable() -> None:
    joined = join([made(60), made(60, seed=1)], ["a", "b"], TWO.scores)
    mixed = (joined.probs[0] + joined.probs[1]) / 2
    mixed /= mixed.sum(axis=1, keepdims=True)
    switches = [Switch(0, 0, 0.9, ((1, 0.2), (2, 0.1)))]
    expected = mixed.argmax(axis=1)
    for row in np.flatnonzero((expected == 0) & (mixed[:, 0] <= 0.9)):
        expected[row] = 1 if mixed[row, 1] >= 0.2 else 2 if mixed[row, 2] >= 0.1 else 0
    assert (expected != mixed.argmax(axis=1)).any()
    found = mode_submission(joined, Mode(TWO, switches))
    assert found.labels.tolist() == expected.tolist()
    np.testing.assert_allclose(found.probs, mixed, rtol=1e-12)
    np.testing.assert_allclose(found.confidences, mixed[np.arange(60), expected], rtol=1e-12)


def test_a_second_softmax_changes_what_is_written_and_no_class() -> None:
    joined = join([made(), made(seed=1)], ["a", "b"], TWO.scores)
    plain, again = (mode_submission(joined, Mode(TWO, []), flag) for flag in (False, True))
    assert plain.probs is not None
    assert plain.labels.tolist() == again.labels.tolist()
    np.testing.assert_allclose(again.probs, special.softmax(plain.probs, axis=1), rtol=1e-12)


def test_a_video_without_a_prediction_is_class_0_whatever_the_switches_say() -> None:
    joined = join([made(bad=[2]), made(seed=1)], ["a", "b"], TWO.scores)
    found = mode_submission(joined, Mode(TWO, [Switch(0, 0, 1.0, ((3, 0.0),))]))
    assert found.labels[2] == 0
    assert found.confidences[2] == 0.25
    assert not (np.delete(found.labels, 2) == 0).any()
