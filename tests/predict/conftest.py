"""A tiny data folder, two models trained on it, and their results files: what tests of predicting share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny

PAIRS = ("TEST.NUM_ENSEMBLE_VIEWS", "[1, 2]", "TEST.NUM_SPATIAL_CROPS", "[1, 3]")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data folder that no test may change."""
    return tiny.build_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def models(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders of two models trained for an epoch (another seed each), tested on `test` and `arid`; read only."""
    folder = tmp_path_factory.mktemp("models")
    for seed in (1, 2):
        out = folder / f"seed{seed}"
        seeds = ("RNG_SEED", seed, "SOLVER.MAX_EPOCH", 1, "SOLVER.WARMUP_EPOCHS", 0.5)
        assert tiny.run_net("train", data, out, *seeds) == 0
        for split in ("test", "arid"):
            assert tiny.run_net("test", data, out, *seeds, *PAIRS, "TEST.DATA_SELECT", split) == 0
    return [folder / "seed1", folder / "seed2"]
