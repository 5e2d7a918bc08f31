"""101 videos in three views on one, two and three ranks, in batches of 1, 4 and 7: the same rows in list order."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from nightcrawler.data import build_video
from nightcrawler.data.video.decode import Decoded, MemoryReader
from nightcrawler.data.video.probe import StreamInfo
from nightcrawler.engine.tester import build_tester
from nightcrawler.models.build import build_model
from nightcrawler.pseudo.predictions import Predictions, read_results
from nightcrawler.utils import distributed
from tests import tiny
from tests.faults.ranks import on_ranks

NUM_VIDEOS, NUM_VIEWS = 101, 3
BATCHES = (1, 4, 7)
OVERRIDES = ("TEST.DATA_SELECT", "many", "TEST.NUM_ENSEMBLE_VIEWS", NUM_VIEWS)


class NoiseReader:
    """Noise that a file's name decides, 12 to 31 frames, in place of a video."""

    def __init__(self, *settings: object) -> None:
        pass

    def probe(self, path: str) -> StreamInfo:
        return StreamInfo(len(self._frames(path)))

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        return MemoryReader(self._frames(path)).decode(path, indices, info)

    def _frames(self, path: str) -> np.ndarray:
        rng = np.random.default_rng(zlib.crc32(Path(path).name.encode()))
        num_frames = int(rng.integers(12, 32))
        return rng.integers(0, 256, (num_frames, 32, 36, 3), dtype=np.uint8)


def evaluate(data: Path, folder: Path) -> None:
    """Test with every size of a batch, and check that rank 0 alone has written."""
    build_video.FileReader = NoiseReader
    written: list[Path] = []
    write = Predictions.save

    def noted(predictions: Predictions, path: Path) -> None:
        written.append(path)
        write(predictions, path)

    Predictions.save = noted
    for batch in BATCHES:
        out = folder / f"{distributed.world_size()}_{batch}"
        weights = ("TEST.CHECKPOINT_FILE_PATH", folder / "weights.pyth", "TEST.BATCH_SIZE", batch)
        assert build_tester(tiny.config(data, out, *OVERRIDES, *weights)).run() == 0
    assert len(written) == (len(BATCHES) if distributed.is_main() else 0)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A data folder with a list of 101 files, their labels in turn."""
    names = [f"clip_{number * 37 % NUM_VIDEOS:03d}.mp4" for number in range(NUM_VIDEOS)]
    for name in names:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    tiny.write_rows(
        tmp_path / "data/many.csv", [(name, i % tiny.NUM_CLASSES) for i, name in enumerate(names)]
    )
    return tmp_path / "data"


def results(out: Path) -> Predictions:
    (path,) = out.glob("*.npz")
    return read_results(path)


def test_the_same_rows_however_the_work_is_spread(many: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = build_model(tiny.config(many, tmp_path / "out", *OVERRIDES))
    torch.save({"model_state": model.state_dict()}, tmp_path / "weights.pyth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_video, "FileReader", NoiseReader)
        patch.setattr(Predictions, "save", Predictions.save)  # `evaluate` replaces it
        evaluate(many, tmp_path)
    for world in (2, 3):
        on_ranks(world, tmp_path, evaluate, many, tmp_path)
    rows = (many / "many.csv").read_text().split()
    reference = results(tmp_path / "1_1")
    assert np.ptp(reference.logits, axis=0).max() > 1e-3
    for world in (1, 2, 3):
        for batch in BATCHES:
            found = results(tmp_path / f"{world}_{batch}")
            assert found.names == [row.split(",")[0] for row in rows]
            assert found.labels.tolist() == [int(row.split(",")[1]) for row in rows]
            assert found.status == ["ok"] * NUM_VIDEOS
            assert found.num_clips.tolist() == [NUM_VIEWS] * NUM_VIDEOS
            np.testing.assert_allclose(found.probs, reference.probs, rtol=0, atol=1e-5)
            np.testing.assert_allclose(found.logits, reference.logits, rtol=0, atol=1e-5)
            assert found.probs.argmax(1).tolist() == reference.probs.argmax(1).tolist()
