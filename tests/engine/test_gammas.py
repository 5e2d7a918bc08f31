"""Test-time augmentation over gammas: the mean of single tests, in a file of its own that says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.pseudo.predictions import Predictions, read_results
from tests import tiny

PAIRS = ("TEST.NUM_ENSEMBLE_VIEWS", "[1, 2]", "TEST.NUM_SPATIAL_CROPS", "[1, 3]")


def results_of(
    data: Path, trained: Path, out: Path, split: str, *overrides: Any
) -> dict[str, Predictions]:
    weights = ("TEST.CHECKPOINT_FILE_PATH", trained / "best.pyth", "TEST.DATA_SELECT", split)
    assert tiny.run_net("test", data, out, *weights, *PAIRS, *overrides) == 0
    return {path.name: read_results(path) for path in sorted(out.glob("*.npz"))}


def test_a_sweep_is_the_mean_of_single_gammas(data: Path, trained: Path, tmp_path: Path) -> None:
    gammas = [0.2, 0.35, 0.6]
    swept = results_of(data, trained, tmp_path / "all", "arid", "TEST.GAMMAS", gammas)
    single = [
        results_of(data, trained, tmp_path / str(g), "arid", "ENHANCE.GAMMA", g) for g in gammas
    ]
    assert list(swept) == ["aridx4x32x1x1xg0.2-0.35-0.6.npz", "aridx4x32x2x3xg0.2-0.35-0.6.npz"]
    for (name, found), num_clips in zip(swept.items(), (3, 18), strict=True):
        alone = [one[name.replace("xg0.2-0.35-0.6", "")] for one in single]
        assert np.ptp([one.logits for one in alone], axis=0).max() > 1e-3
        np.testing.assert_allclose(
            found.logits, np.mean([one.logits for one in alone], axis=0), atol=1e-5
        )
        np.testing.assert_allclose(
            found.probs, np.mean([one.probs for one in alone], axis=0), atol=1e-6
        )
        assert found.num_clips.tolist() == [num_clips] * tiny.NUM_ARID
        assert found.names == alone[0].names
        assert (found.meta["gammas"], found.meta["gamma"]) == (gammas, None)
        assert [(one.meta["gammas"], one.meta["gamma"]) for one in alone] == [
            ([], gamma) for gamma in gammas
        ]
        assert found.meta["enhancement"] == "gamma"


def test_bright_clips_and_other_enhancements_name_no_gamma(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    bright = results_of(data, trained, tmp_path / "bright", "val_dry", "TEST.GAMMAS", "[0.2, 0.6]")
    other = results_of(
        data,
        trained,
        tmp_path / "other",
        "arid",
        "ENHANCE.TEST",
        "clahe",
        "ENHANCE.DENOISE_FRAMES",
        3,
    )
    assert list(bright) == ["val_dryx4x32x1x1.npz", "val_dryx4x32x2x3.npz"]
    assert list(other) == ["aridx4x32x1x1.npz", "aridx4x32x2x3.npz"]
    keys = ("enhancement", "gamma", "gammas", "denoise_frames")
    assert {tuple(map(str, (one.meta[key] for key in keys))) for one in bright.values()} == {
        ("none", "None", "[]", "1")
    }
    assert {tuple(map(str, (one.meta[key] for key in keys))) for one in other.values()} == {
        ("clahe", "None", "[]", "3")
    }
