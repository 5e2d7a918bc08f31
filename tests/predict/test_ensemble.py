"""What is predicted is what test.sh writes for the same video; recipes mix as the vote does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.ensemble import (
    Ensemble,
    EnsembleRecipe,
    build_ensemble,
    read_recipe,
    run_hash,
)
from nightcrawler.predict.long_video import predict_long_video
from nightcrawler.predict.model_input import FrameSpan
from nightcrawler.predict.predictor import build_predictor
from nightcrawler.predict.sources import find_videos
from nightcrawler.predict.trust import NEVER, Judge
from nightcrawler.predict.video_result import VideoResult
from nightcrawler.pseudo.ensemble import join
from nightcrawler.pseudo.predictions import read_results
from nightcrawler.pseudo.vote import mode_submission
from nightcrawler.utils.errors import UserError
from tests import tiny
from tests.reading import read_file

RESULTS = {(1, 1): "x4x32x1x1.npz", (2, 3): "x4x32x2x3.npz"}
RECIPE = """\
CLASSES: [Drink, Jump, Pick, Pour, Push, Run, Sit, Stand, Turn, Walk, Wave]
LABELS: label-free
MODELS: {a: seed1, b: seed2}
ENSEMBLE: {VIEWS: {a: [1, 1], b: [2, 3]}}
MODES:
  "0": {WEIGHTS: equal}
  "4": {WEIGHTS: {a: 0.8, b: 0.2}, OVERRULE: {Run: b}}
"""


def ensemble_of(*models: Path, recipe: EnsembleRecipe | None = None, **options: object) -> Ensemble:
    return build_ensemble(models, recipe, Path(), replace(PredictOptions(), **options))


def probs_of(results: list[VideoResult]) -> np.ndarray:
    return np.array([result.probs for result in results])


@pytest.mark.parametrize("pair", RESULTS)
@pytest.mark.parametrize("split", ["test", "arid"])
def test_probabilities_are_those_of_the_results_file(
    data: Path, models: list[Path], split: str, pair: tuple[int, int]
) -> None:
    ensemble = ensemble_of(models[0], pair=pair)
    results = list(ensemble.videos(find_videos(data / f"{split}.csv", 11)))
    written = read_results(models[0] / f"{split}{RESULTS[pair]}")
    assert [result.name for result in results] == written.names
    assert [result.label for result in results] == written.labels.tolist()
    np.testing.assert_allclose(probs_of(results), written.probs, atol=1e-6)
    np.testing.assert_allclose([result.logits for result in results], written.logits, atol=1e-5)
    assert [result.num_clips for result in results] == written.num_clips.tolist()
    assert np.ptp(written.probs, axis=0).max() > 1e-4  # videos do differ


def test_several_models_weigh_the_same(data: Path, models: list[Path]) -> None:
    results = list(ensemble_of(*models).videos(find_videos(data / "test.csv", 11)))
    alone = [read_results(model / f"test{RESULTS[1, 1]}").probs for model in models]
    np.testing.assert_allclose(probs_of(results), np.mean(alone, axis=0), atol=1e-6)
    assert [result.votes for result in results] == list(
        zip(*(one.argmax(axis=1).tolist() for one in alone), strict=True)
    )


def test_a_mode_of_a_recipe_is_what_the_vote_makes_of_results(
    data: Path, models: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    recipe = read_recipe(path, 4)
    ensemble = build_ensemble([], recipe, models[0].parent, PredictOptions())
    assert [predictor.pair for predictor in ensemble.predictors] == [(1, 1), (2, 3)]
    results = list(ensemble.videos(find_videos(data / "arid.csv", 11)))
    files = [models[0] / f"arid{RESULTS[1, 1]}", models[1] / f"arid{RESULTS[2, 3]}"]
    joined = join([read_results(file) for file in files], ["a", "b"], recipe.mode.ensemble.scores)
    expected = mode_submission(joined, recipe.mode)
    np.testing.assert_allclose(probs_of(results), expected.probs, atol=1e-6)
    assert [result.class_id for result in results] == expected.labels.tolist()
    assert read_recipe(path, None).mode.ensemble.weights is None
    with pytest.raises(UserError, match="has modes 0, 4"):
        read_recipe(path, 1)


def test_exported_weights_answer_the_same(data: Path, models: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    assert (
        tiny.load_tool("convert_checkpoint").main([str(models[0] / "best.pyth"), "--to", str(out)])
        == 0
    )
    items = find_videos(data / "test.csv", 11)
    original, exported = ensemble_of(models[0]), ensemble_of(out)
    np.testing.assert_array_equal(
        probs_of(list(original.videos(items))), probs_of(list(exported.videos(items)))
    )
    assert original.about()["labels"] == exported.about()["labels"] == "label-free"


def test_a_bad_video_has_its_cause_and_the_others_their_answers(
    data: Path, models: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "good.mp4").write_bytes((data / "Test/0.mp4").read_bytes())
    tiny.damage(tmp_path / "bad.mp4")
    (tmp_path / "empty.mp4").touch()
    results = {
        result.name: result for result in ensemble_of(*models).videos(find_videos(tmp_path, 11))
    }
    assert results["good.mp4"].ok
    assert (results["bad.mp4"].class_id, results["bad.mp4"].probs) == (-1, ())
    assert "not a video that can be read" in results["bad.mp4"].status
    assert "the file is empty" in results["empty.mp4"].status


@pytest.mark.parametrize("denoise", [1, 3])
def test_one_window_over_all_frames_is_the_whole_video(
    data: Path, models: list[Path], tmp_path: Path, denoise: int
) -> None:
    state = torch.load(models[0] / "best.pyth", weights_only=True)
    state["cfg"] = state["cfg"].replace("DENOISE_FRAMES: 1", f"DENOISE_FRAMES: {denoise}")
    torch.save(state, tmp_path / "model.pyth")
    ensemble = ensemble_of(tmp_path / "model.pyth")
    assert ensemble.predictors[0].input.about["denoise_frames"] == denoise
    item = find_videos(data / "Test/1.mp4", 11)[0]
    whole = next(ensemble.videos([item]))
    result, spans = predict_long_video(ensemble, item, 100.0, 50.0)
    np.testing.assert_allclose(result.probs, whole.probs, atol=1e-7)
    assert (result.segments[0].start_sec, result.segments[0].end_sec) == (
        0.0,
        pytest.approx(tiny.NUM_FRAMES / 12),
    )
    assert len(spans) == 1
    from_memory = ensemble.frames(item, FrameSpan(list(read_file(item.path, range).frames)))
    np.testing.assert_allclose(from_memory.probs, whole.probs, atol=1e-7)


def test_windows_are_averaged_over_a_video(data: Path, models: list[Path]) -> None:
    ensemble = ensemble_of(models[0])
    item = find_videos(data / "Test/1.mp4", 11)[0]
    frames = list(read_file(item.path, range).frames)
    result, _ = predict_long_video(ensemble, item, 0.5, 0.25)
    parts = [
        ensemble.frames(item, FrameSpan(frames[first : first + 6])).probs for first in (0, 3, 6)
    ]
    np.testing.assert_allclose(result.probs, np.mean(parts, axis=0), atol=1e-7)
    assert result.segments[-1].end_sec == pytest.approx(1.0)


def test_bright_videos_are_left_as_they_are(data: Path, models: list[Path]) -> None:
    assert ensemble_of(models[0]).about()["models"][0]["enhancement"] == "gamma"
    bright = ensemble_of(models[0], dark=False)
    assert bright.about()["models"][0]["enhancement"] == "none"
    assert run_hash(bright.about()) != run_hash(ensemble_of(models[0]).about())


def test_answers_that_are_judged_otherwise_are_of_another_run(models: list[Path]) -> None:
    """Statuses lie in the files of a run: its answers must all be judged by one rule."""
    ensemble = ensemble_of(models[0])
    about = []
    for judge in (Judge(threshold=0.5), Judge(threshold=0.8), NEVER, Judge()):
        about.append(replace(ensemble, judge=judge).about())
    assert len({run_hash(one) for one in about}) == 4


def test_names_of_models_do_not_tell_runs_apart(models: list[Path]) -> None:
    assert run_hash(ensemble_of(models[0]).about()) == run_hash(
        ensemble_of(models[0] / "best.pyth").about()
    )
    assert run_hash(ensemble_of(models[0]).about()) != run_hash(ensemble_of(models[1]).about())


def test_what_cannot_be_mixed_is_refused(models: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a model is given twice"):
        ensemble_of(models[0], models[0])
    state = torch.load(models[0] / "best.pyth", weights_only=True)
    names = ["Wave", *state["class_names"][:-1]]
    state |= {
        "class_names": names,
        "cfg": state["cfg"].replace("[Drink, Jump", "[Wave, Drink, Jump"),
    }
    state["cfg"] = state["cfg"].replace("Walk, Wave]", "Walk]")
    torch.save(state, tmp_path / "other.pyth")
    with pytest.raises(UserError, match=r"its classes are Wave, Drink.*those of seed1 are Drink"):
        ensemble_of(models[0], tmp_path / "other.pyth")


def test_a_checkpoint_without_configuration_says_what_to_do(
    models: list[Path], tmp_path: Path
) -> None:
    state = torch.load(models[0] / "best.pyth", weights_only=True)
    torch.save({"model_state": state["model_state"]}, tmp_path / "old.pyth")
    with pytest.raises(
        UserError, match=r"holds no configuration: add it with tools/convert_checkpoint.py"
    ):
        build_predictor(tmp_path / "old.pyth", "old", None, PredictOptions())
    state["cfg"] += "UNKNOWN_KEY: 1\n"
    torch.save(state, tmp_path / "newer.pyth")
    with pytest.raises(
        UserError, match=r"newer.pyth \(its configuration\):\d+: UNKNOWN_KEY: unknown key"
    ):
        build_predictor(tmp_path / "newer.pyth", "newer", None, PredictOptions())
