"""Differences, predictions of several runs from one decode, and the card's figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

from nightcrawler.data.lists import VideoItem
from nightcrawler.export.card import accuracy_of_results, write_card
from nightcrawler.export.measure import joined, parity, predict_all, speeds
from nightcrawler.export.runtimes import run_module
from nightcrawler.export.trained import build_trained
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.pseudo.predictions import Predictions, add_labels
from nightcrawler.utils.errors import UserError
from tests import tiny
from tests.export.made import write_checkpoint


def said(probs: list[list[float]], names: list[str], status: str = "ok") -> Predictions:
    values, count = np.array(probs, np.float32), len(names)
    return Predictions(
        values,
        values,
        np.full(count, -1),
        names,
        np.ones(count, np.int64),
        [status] * count,
        {"split": "test"},
    )


def test_parity_finds_the_worst_video() -> None:
    reference = said([[0.5, 0.5], [0.2, 0.8]], ["a", "b"])
    found = parity(said([[0.5, 0.5], [0.6, 0.4]], ["a", "b"]), reference)
    assert (round(found.worst, 6), found.worst_video, found.num_same, found.num_videos) == (
        0.4,
        "b",
        1,
        2,
    )
    with pytest.raises(UserError, match=r"^b: damaged: cannot be compared"):
        parity(joined([said([[1, 0]], ["a"]), said([[1, 0]], ["b"], "damaged")]), reference)


def test_joined_keeps_the_order() -> None:
    both = joined([said([[1, 0]], ["z"]), said([[0, 1], [0.5, 0.5]], ["a", "b"])])
    assert both.names == ["z", "a", "b"]
    assert both.probs.tolist() == [[1, 0], [0, 1], [0.5, 0.5]]


def test_runs_see_the_same_clips_and_bad_videos_say_why(tmp_path: Path) -> None:
    trained = build_trained(write_checkpoint(tmp_path), PredictOptions(root=tmp_path))
    tiny.write_video(tmp_path / "a.mp4", label=3, seed=5, dark=True)
    tiny.damage(tmp_path / "b.mp4")
    items = [VideoItem(name, -1, tmp_path / name, 1) for name in ("a.mp4", "b.mp4")]
    seen: list[np.ndarray] = []

    def spy(frames: np.ndarray) -> np.ndarray:
        seen.append(frames)
        return np.eye(11, dtype=np.float32)[:1]

    found = predict_all(trained, {"spy": spy, "graph": run_module(trained.graph)}, items)
    np.testing.assert_allclose(found["spy"].probs[0], np.eye(11)[0], atol=1e-30)
    np.testing.assert_allclose(
        found["graph"].probs[0], run_module(trained.graph)(seen[0])[0], atol=1e-6
    )
    assert seen[0].shape == (1, 4, tiny.HEIGHT, tiny.WIDTH, 3)
    for predictions in found.values():
        assert [status[:5] for status in predictions.status] == ["ok", "error"]
        assert np.isnan(predictions.probs[1]).all()


def test_speeds_run_all_in_turns() -> None:
    order: list[str] = []

    def call(name: str) -> object:
        return lambda frames: order.append(name + str(frames.shape[0]))

    found = speeds({"a": call("a"), "b": call("b")}, (2, 4, 4, 3), 3, 2)  # type: ignore[dict-item]
    assert order == ["a3", "b3"] * 3
    assert set(found) == {"a", "b"}
    assert min(found.values()) >= 0


def test_the_card_says_what_the_model_is_and_was_measured(tmp_path: Path) -> None:
    trained = build_trained(write_checkpoint(tmp_path), PredictOptions(root=tmp_path))
    predictions = said([np.eye(11)[label].tolist() for label in (0, 1, 2, 3)], list("abcd"))
    predictions.meta |= {
        "checkpoint_sha256": trained.facts["checkpoint_sha256"],
        "views": 1,
        "crops": 3,
    }
    with pytest.raises(UserError, match="no video has a label"):
        accuracy_of_results(tmp_path / "r.pkl", predictions, trained.facts["checkpoint_sha256"])
    add_labels(predictions, {"a": 0, "b": 1, "c": 2, "d": 4})
    with pytest.raises(UserError, match="results of another checkpoint"):
        accuracy_of_results(tmp_path / "r.pkl", predictions, "ff")
    figure = accuracy_of_results(
        tmp_path / "r.pkl", predictions, trained.facts["checkpoint_sha256"]
    )
    write_card(tmp_path / "MODEL_CARD.md", trained, [tmp_path / "model.onnx"], [figure])
    text = (tmp_path / "MODEL_CARD.md").read_text()
    for part in (
        "`[batch, 4, height, width, 3]`: clips, frames, height, width, colour",
        "scaled down to a short side of 72 pixels, unless it is smaller",
        "lit (gamma 0.25), resized to a short side of 32 pixels",
        "| PyTorch, split test, 1 views x 3 crops | top-1 75.00 %",
        "of 4 videos",
        "label-free",
        f"SHA-256 `{trained.facts['checkpoint_sha256']}`",
        "MODEL.MOTION_STEM: True",
        "| `model.onnx` | ONNX, opset 20",
        "## Licence",
    ):
        assert part in text
    assert str(tmp_path) not in text
    card = ModelCard.load(tmp_path / "MODEL_CARD.md")
    assert (card.data.pipeline_tag, card.data.license) == ("video-classification", "unknown")
    assert trained.facts["model"] in card.data.tags
    assert card.text.lstrip().startswith(f"# {trained.name}: human actions in dark video")
    write_card(tmp_path / "MODEL_CARD.md", trained, [], [])
    assert "Not measured" in (tmp_path / "MODEL_CARD.md").read_text()
