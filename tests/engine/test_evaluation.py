"""Testing an experiment: results files, all pairs from one decode, rows against the method written out."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch.nn import functional

from nightcrawler.config.yaml import read_yaml
from nightcrawler.data.build import build_eval_set
from nightcrawler.data.video.convert import RgbConverter
from nightcrawler.engine.build import build_evaluator
from nightcrawler.engine.checkpoint_files import load_checkpoint
from nightcrawler.models.build import build_model
from nightcrawler.pseudo.predictions import Predictions, read_content, read_results
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import sha256_file
from tests import tiny
from tests.paths import ROOT
from tests.reading import count_decodes

PAIRS = ("TEST.NUM_ENSEMBLE_VIEWS", "[1, 3, 1]", "TEST.NUM_SPATIAL_CROPS", "[1, 3, 3]")


def run_test(data: Path, trained: Path, out: Path, split: str, *overrides: Any) -> None:
    weights = ("TEST.CHECKPOINT_FILE_PATH", trained / "best.pyth", "TEST.DATA_SELECT", split)
    assert tiny.run_net("test", data, out, *weights, *overrides) == 0


def loaded_model(cfg: Any, trained: Path) -> torch.nn.Module:
    model = build_model(cfg)
    model.load_state_dict(load_checkpoint(trained / "best.pyth")["model_state"])
    return model.eval()


def test_the_published_overlay_writes_what_the_published_vote_reads(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    run_test(data, trained, tmp_path, "arid")
    values = read_yaml(ROOT / "configs/stages/published.yaml").values
    form = values["TEST.RESULTS_FORMAT"]
    run_test(data, trained, tmp_path, "arid", "TEST.RESULTS_FORMAT", form)
    # The published vote takes a dict from the pickle, and adds arrays of it.
    published = read_content(tmp_path / "aridx4x32x1x1.pkl")
    ours = read_results(tmp_path / "aridx4x32x1x1.npz")
    np.testing.assert_array_equal(published["video_preds"], ours.logits)
    np.testing.assert_array_equal(published["video_labels"], ours.labels)
    assert read_results(tmp_path / "aridx4x32x1x1.pkl").meta == ours.meta


def test_results_hold_rows_in_list_order_with_names_and_meta(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    run_test(data, trained, tmp_path, "arid")
    found = read_results(tmp_path / "aridx4x32x1x1.npz")
    rows = [line.split(",") for line in (data / "arid.csv").read_text().split()]
    assert found.names == [name for name, _ in rows]
    assert found.labels.tolist() == [int(label) for _, label in rows]
    assert found.status == ["ok"] * tiny.NUM_ARID
    assert (found.logits.dtype, found.probs.dtype, found.labels.dtype) == (
        np.float32,
        np.float32,
        np.int64,
    )
    np.testing.assert_allclose(found.probs.sum(1), 1, atol=1e-6)
    meta, state = found.meta, load_checkpoint(trained / "best.pyth")
    expected = {
        "split": "arid",
        "views": 1,
        "crops": 1,
        "num_frames": 4,
        "crop_size": 32,
        "labels": "label-free",
    }
    expected |= {
        "enhancement": "gamma",
        "gamma": 0.25,
        "model": "uniformer",
        "seed": 6666,
        "adapter": "batchnorm",
    }
    assert {key: meta[key] for key in expected} == expected
    assert meta["checkpoint_sha256"] == sha256_file(trained / "best.pyth")
    assert meta["list_sha256"] == sha256_file(data / "arid.csv")
    assert meta["class_names"] == state["class_names"]
    assert meta["versions"]["torch"] == metadata.version("torch")


def test_the_tested_checkpoint_has_the_accuracy_that_validation_saw(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    run_test(data, trained, tmp_path, "val_dry")
    found = read_results(tmp_path / "val_dryx4x32x1x1.npz")
    epoch = load_checkpoint(trained / "best.pyth")["best"]["epoch"]
    (seen,) = [
        row["top1"]
        for row in tiny.metrics(trained, "val")
        if (row["epoch"], row["split"]) == (epoch, "val_dry")
    ]
    assert 100 * np.mean(found.probs.argmax(1) == found.labels) == pytest.approx(seen)
    assert found.meta["enhancement"] == "none"


def test_all_pairs_come_from_one_decode_of_each_video(
    data: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = count_decodes(monkeypatch)
    run_test(data, trained, tmp_path, "test", *PAIRS)
    assert sorted(decoded) == ["0.mp4", "1.mp4", "2.mp4"]
    assert sorted(p.name for p in tmp_path.glob("*.npz")) == [
        f"testx4x32x{p}.npz" for p in ("1x1", "1x3", "3x3")
    ]
    for views, crops in ((1, 1), (1, 3), (3, 3)):
        found = read_results(tmp_path / f"testx4x32x{views}x{crops}.npz")
        assert found.num_clips.tolist() == [views * crops] * tiny.NUM_TEST
        assert (found.meta["views"], found.meta["crops"]) == (views, crops)


def test_pairs_together_and_alone_give_the_same_rows(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    run_test(data, trained, tmp_path / "together", "test", *PAIRS)
    for views, crops in ((1, 1), (3, 3)):
        alone = ("TEST.NUM_ENSEMBLE_VIEWS", views, "TEST.NUM_SPATIAL_CROPS", crops)
        run_test(data, trained, tmp_path / "alone", "test", *alone, "TEST.BATCH_SIZE", 64)
        name = f"testx4x32x{views}x{crops}.npz"
        left, right = (read_results(tmp_path / place / name) for place in ("together", "alone"))
        np.testing.assert_allclose(left.logits, right.logits, rtol=0, atol=1e-5)
        np.testing.assert_allclose(left.probs, right.probs, rtol=0, atol=1e-6)


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([RgbConverter()(frame) for frame in container.decode(video=0)])


def clips_by_hand(frames: np.ndarray, wanted: list[int], crops: list[int]) -> torch.Tensor:
    """Gamma 0.25, normalisation, short side 40 to 32 (long side 48 to 38), crops at the given x."""
    lit = np.trunc(255.999 * (frames[wanted] / 255.0) ** 0.25)
    clip = torch.from_numpy((lit / 255.0 - 0.45) / 0.225).float().permute(3, 0, 1, 2)
    resized = functional.interpolate(clip, size=(32, 38), mode="bilinear", align_corners=False)
    return torch.stack([resized[..., x : x + 32] for x in crops])


def test_rows_against_the_method_written_out(data: Path, trained: Path, tmp_path: Path) -> None:
    """12 frames: 4 segments of 2.75 frames and their middles; 3 views take the 12 parts of 11 / 12 frames in turn."""
    run_test(data, trained, tmp_path, "test", *PAIRS)
    model = loaded_model(tiny.config(data, tmp_path), trained)
    middles = [0 + 1, 3 + 1, 6 + 1, 8 + 1]
    views = [[0, 3, 6, 8], [1, 4, 6, 9], [2, 5, 7, 10]]
    for row in range(tiny.NUM_TEST):
        frames = frames_of(data / f"Test/{row}.mp4")
        assert len(frames) == tiny.NUM_FRAMES
        clips = {
            (1, 1): clips_by_hand(frames, middles, [3]),
            (1, 3): clips_by_hand(frames, middles, [0, 3, 6]),
            (3, 3): torch.cat([clips_by_hand(frames, view, [0, 3, 6]) for view in views]),
        }
        for (num_views, num_crops), clip in clips.items():
            with torch.no_grad():
                logits = model(clip).double()
            found = read_results(tmp_path / f"testx4x32x{num_views}x{num_crops}.npz")
            np.testing.assert_allclose(found.logits[row], logits.mean(0), rtol=0, atol=2e-5)
            np.testing.assert_allclose(
                found.probs[row], logits.softmax(1).mean(0), rtol=0, atol=5e-6
            )


def test_evaluation_leaves_the_model_as_it_was(data: Path, trained: Path, tmp_path: Path) -> None:
    cfg = tiny.config(data, tmp_path)
    model = loaded_model(cfg, trained).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = evaluate(cfg, model)
    assert model.training
    assert not tiny.differences(before, dict(model.state_dict()))
    model.eval()
    np.testing.assert_array_equal(evaluate(cfg, model).logits, found.logits)


def evaluate(cfg: Any, model: torch.nn.Module) -> Predictions:
    eval_set = build_eval_set(cfg, "arid", "TEST", [(1, 1)])
    return build_evaluator(cfg, torch.device("cpu")).run(model, eval_set, tiny.NUM_CLASSES)[1, 1]


def test_logits_that_are_not_finite_are_a_status_not_a_prediction(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    cfg = tiny.config(data, tmp_path)
    model = loaded_model(cfg, trained)
    with torch.no_grad():
        model.head.bias[3] = float("nan")
    found = evaluate(cfg, model)
    assert set(found.status) == {"error: the model's logits are not finite"}
    assert not found.ok.any()


def test_a_video_that_comes_twice_or_never_is_an_error(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    cfg = tiny.config(data, tmp_path)
    model, evaluator = loaded_model(cfg, trained), build_evaluator(cfg, torch.device("cpu"))
    eval_set = build_eval_set(cfg, "arid", "TEST", [(1, 1)])
    batches = list(eval_set.loader)
    eval_set.loader = [*batches, batches[0]]
    with pytest.raises(UserError, match=r"Run/Run_1_0.mp4' came twice"):
        evaluator.run(model, eval_set, tiny.NUM_CLASSES)
    eval_set.loader = batches[:-1]
    with pytest.raises(UserError, match=r"2 of 6 videos have no result, first 'Run/Run_1_4.mp4'"):
        evaluator.run(model, eval_set, tiny.NUM_CLASSES)


def test_a_video_that_two_ranks_have_is_an_error(
    data: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = tiny.config(data, tmp_path)
    monkeypatch.setattr(distributed, "gather_objects", lambda rows: [rows, {3: rows[3]}])
    with pytest.raises(UserError, match=r"video 'Run/Run_1_3.mp4' came from two ranks"):
        evaluate(cfg, loaded_model(cfg, trained))


@pytest.mark.parametrize("fault", ["missing", "damaged", "other model"])
def test_only_a_whole_checkpoint_of_this_model_is_tested(
    data: Path, trained: Path, tmp_path: Path, fault: str
) -> None:
    path, overrides = (
        tmp_path / "best.pyth",
        ("UNIFORMER.DEPTH", "[1, 2, 1, 1]") if fault == "other model" else (),
    )
    if fault != "missing":
        content = bytearray((trained / "best.pyth").read_bytes())
        (tmp_path / "best.pyth.sha256").write_bytes((trained / "best.pyth.sha256").read_bytes())
        content[len(content) // 2] ^= fault == "damaged"
        path.write_bytes(content)
    expected = {
        "missing": "run run.sh first",
        "damaged": "damaged",
        "other model": r"blocks2.1.* \(missing\)",
    }
    with pytest.raises(UserError, match=expected[fault]):
        tiny.run_net("test", data, tmp_path, *overrides)
    assert not list(tmp_path.glob("*.npz"))
