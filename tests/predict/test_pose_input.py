"""Models of skeletons predict videos, alone and beside models of pictures, with an estimator that sees dots."""

from __future__ import annotations

import gc
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fvcore.common.config import CfgNode

from nightcrawler.config.load import load_experiment
from nightcrawler.data.lists import VideoItem
from nightcrawler.engine.build import build_trainer
from nightcrawler.pose.files import Pose
from nightcrawler.predict import pose_input
from nightcrawler.predict.adapt import adapt
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.ensemble import Ensemble, build_ensemble
from nightcrawler.predict.load import load
from nightcrawler.predict.long_video import predict_long_video
from nightcrawler.predict.model_input import FrameSpan
from nightcrawler.predict.pose_input import cut_pose
from nightcrawler.predict.trust import Judge
from nightcrawler.prepare import pose_files
from nightcrawler.prepare.extract_poses import ExtractionOptions
from nightcrawler.prepare.pose_files import PoseRecipe
from nightcrawler.utils.temporary_folder import LOCK_FILE
from tests import tiny
from tests.data.skeleton.files import build_poses
from tests.paths import ROOT
from tests.pose.estimators import BUG, CRASH, TREE
from tests.prepare.test_extract_poses import cut_short, dots, walk
from tests.reading import read_file

EXPERIMENT = ROOT / "exp_pose/skeleton/config.yaml"
SETTINGS = (
    *("DEVICE", "cpu", "NUM_THREADS", 1, "TENSORBOARD.ENABLE", False),
    *("DATA_LOADER.NUM_WORKERS", 0, "SKELETON.WIDTH", 8, "DATA.NUM_FRAMES", 24),
    *("TRAIN.BATCH_SIZE", 8, "TRAIN.MICRO_BATCH", 4, "SOLVER.MAX_EPOCH", 1),
    *("SOLVER.WARMUP_EPOCHS", 0.5, "ADAPT.NAME", "none"),
)


@pytest.fixture(autouse=True)
def sees_dots(monkeypatch: pytest.MonkeyPatch) -> None:
    def recipe(cfg: CfgNode) -> PoseRecipe:
        looking = ExtractionOptions(search_crops=False)
        return PoseRecipe("dots", light="none", looking=looking, imports=("tests.pose.estimators",))

    monkeypatch.setattr(pose_input, "pose_recipe_from_cfg", recipe)


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the eleven classes."""
    data = build_poses(tmp_path_factory.mktemp("poses"))
    out = tmp_path_factory.mktemp("skeleton")
    settings = ["DATA.PATH_PREFIX", data, "OUTPUT_DIR", out, *SETTINGS]
    build_trainer(load_experiment(EXPERIMENT, (), [str(value) for value in settings])).fit()
    return out


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tiny.build_data(tmp_path_factory.mktemp("data"))
    out = tmp_path_factory.mktemp("pictures") / "run"
    arguments = ("SOLVER.MAX_EPOCH", 1, "SOLVER.WARMUP_EPOCHS", 0.5)
    assert tiny.run_net("train", data, out, *arguments) == 0
    return out


def item_of(path: str | Path) -> VideoItem:
    return VideoItem(Path(path).name, -1, Path(path), 1)


def both(pictures: Path, skeleton: Path) -> Ensemble:
    options = PredictOptions(device="cpu")
    return build_ensemble([pictures, skeleton], None, Path(), options)


def test_a_person_has_a_class_and_an_empty_room_has_none(skeleton: Path, tmp_path: Path) -> None:
    somebody = dots(tmp_path / "walk.mp4", walk(60))
    nobody = dots(tmp_path / "none.mp4", [None] * 30)
    predictor = load(skeleton, device="cpu")
    seen, unseen, broken = predictor.predict([somebody, nobody, str(ROOT / "README.md")])
    assert seen.ok
    assert len(seen.probs) == 11
    assert unseen.status == "no person"
    # The file's own fault, told as of a model of pictures.
    (same,) = load("demo/uniformer_b32_k600", device="cpu").predict([str(ROOT / "README.md")])
    assert broken.status == same.status
    # The same video by its frames in memory, whose rate is assumed.
    frames = read_file(Path(somebody), range).frames
    again = predictor.frames(item_of("memory"), FrameSpan(list(frames), 30.0))
    np.testing.assert_allclose(again.probs, seen.probs, atol=0.05)


def test_statistics_of_a_skeleton_model_stay(
    pictures: Path, skeleton: Path, tmp_path: Path
) -> None:
    options = PredictOptions(device="cpu", adapter="batchnorm")
    ensemble = build_ensemble([pictures, skeleton], None, Path(), options)
    before = {
        name: value.clone() for name, value in ensemble.predictors[1].model.state_dict().items()
    }
    item = item_of(dots(tmp_path / "walk.mp4", walk(60)))
    adapted, (of_pictures, of_skeletons) = adapt(ensemble, [item])
    assert of_pictures.layers
    assert of_skeletons.summary() == "sees joints and no light, so nothing is adapted"
    assert ["adapted_on" in one.about for one in adapted.predictors] == [True, False]
    for name, value in adapted.predictors[1].model.state_dict().items():
        assert torch.equal(value, before[name])


def test_who_sees_nobody_leaves_the_answer_to_the_others(
    pictures: Path, skeleton: Path, tmp_path: Path
) -> None:
    somebody = dots(tmp_path / "walk.mp4", walk(60))
    nobody = dots(tmp_path / "none.mp4", [None] * 30)
    ensemble = both(pictures, skeleton)
    mixed, left = ensemble.videos([item_of(somebody), item_of(nobody)])
    alone = list(load(pictures, device="cpu").predict([somebody, nobody]))
    assert left.probs == pytest.approx(alone[1].probs, abs=1e-6)
    assert left.votes[1] == -1
    posed = load(skeleton, device="cpu").predict([somebody])[0]
    expected = (np.array(alone[0].probs) + posed.probs) / 2
    assert mixed.probs == pytest.approx(expected, abs=1e-6)


def test_a_short_video_is_too_short_for_a_model_of_skeletons_too(
    skeleton: Path, tmp_path: Path
) -> None:
    predictor = load(skeleton, device="cpu")
    # Whatever the class, a model alone is not sure of a single frame.
    predictor = replace(predictor, judge=Judge(threshold=0.0))
    clips = [dots(tmp_path / f"{count}.mp4", walk(count, end=60)) for count in (1, 4, 30)]
    half = [*walk(3, end=60), *[None] * 3]
    clips.append(dots(tmp_path / "leaves.mp4", half))
    found = predictor.predict(clips)
    assert [one.status for one in found] == ["too short", "too short", "sure", "no person"]
    assert [one.ok for one in found] == [True, True, True, False]


def test_whom_the_mirrored_picture_does_not_show_is_nobody(
    pictures: Path, skeleton: Path, tmp_path: Path
) -> None:
    """The answer is that of all models, as what was seen may be somebody, and is never sure."""
    # The estimator of these tests does not see blue dots.
    tree = dots(tmp_path / "tree.mp4", walk(60), color=(20, 20, 250), corner=TREE)
    somebody = dots(tmp_path / "walk.mp4", walk(60))
    seen, known = both(pictures, skeleton).videos([item_of(tree), item_of(somebody)])
    assert (seen.status, seen.votes[1] >= 0) == ("no person", True)
    assert known.status != "no person"
    predictor = load(skeleton, device="cpu")
    (alone,) = predictor.predict([tree])
    assert (alone.status, len(alone.probs)) == ("no person", 11)
    result, _ = predict_long_video(predictor, item_of(tree), 1.0, 0.5)
    assert (result.status, {segment.status for segment in result.segments}) == (
        "no person",
        {"no person"},
    )


def test_an_estimator_that_crashes_costs_its_own_answer(
    pictures: Path, skeleton: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crashing = dots(tmp_path / "crash.mp4", walk(30), corner=CRASH)
    fine = dots(tmp_path / "walk.mp4", walk(60))
    ensemble = both(pictures, skeleton)
    first, second = ensemble.videos([item_of(crashing), item_of(fine)])
    # That nobody was looked for says nothing about the video.
    assert first.status not in ("sure", "no person")
    assert (first.ok, first.votes[1]) == (True, -1)
    assert "the other models answer" in caplog.text
    assert second.ok
    assert second.votes[1] >= 0
    alone = load(skeleton, device="cpu").predict(crashing)[0]
    assert alone.status.startswith("error: ")
    assert alone.status.endswith("(pose)")


def test_windows_of_a_long_video_are_cut_from_one_pose(skeleton: Path, tmp_path: Path) -> None:
    path = dots(tmp_path / "long.mp4", [*walk(90), *[None] * 150, *walk(90, 280, 40)])
    predictor = load(skeleton, device="cpu")
    asked = []
    poses: Any = predictor.input.reader
    make = poses.poses._files.make
    poses.poses._files.make = lambda items: asked.append(items) or make(items)
    result, spans = predict_long_video(predictor, item_of(path), 2.0, 1.0)
    assert len(asked) == 1
    assert result.ok
    assert spans[0].start_sec == 0
    # Nobody is there from 3 to 8 seconds: windows of 2 seconds leave a gap from 4 to 7.
    assert not any(span.start_sec < 6.8 and span.end_sec > 4.2 for span in spans)
    assert spans[-1].end_sec == pytest.approx(11.0, abs=0.1)


def test_the_main_person_of_a_part_is_who_is_seen_longest_in_it() -> None:
    points = np.zeros((2, 30, 17, 3), np.float32)
    points[1] = 1
    points[0, 10:20] = np.nan
    points[1, 20:] = np.nan
    pose = Pose(points, 10.0, "coco17", width=8, height=8, seen_again=(0.25, 0.75))
    assert cut_pose(pose, 0, 1).points[0, 0, 0, 0] == 0
    assert cut_pose(pose, 1, 2).points[0, 0, 0, 0] == 1
    assert cut_pose(pose, 1, 2).seen_again == (0.75, 0.25)
    assert cut_pose(pose, 2, 3).points[0, 0, 0, 0] == 0
    assert cut_pose(pose, 2.99, 2.99).num_frames == 1


def test_views_are_taken_and_crops_are_not(pictures: Path, skeleton: Path, tmp_path: Path) -> None:
    path = dots(tmp_path / "walk.mp4", walk(60))
    ensemble = build_ensemble(
        [pictures, skeleton], None, Path(), PredictOptions((3, 3), device="cpu")
    )
    (result,) = ensemble.videos([item_of(path)])
    assert result.ok
    assert result.num_clips == 3 * 3 + 3


def test_a_pose_that_fails_is_tried_once(skeleton: Path, tmp_path: Path) -> None:
    path = dots(tmp_path / "bug.mp4", walk(240), corner=BUG)
    predictor = load(skeleton, device="cpu")
    asked = []
    poses: Any = predictor.input.reader
    make = poses.poses._files.make
    poses.poses._files.make = lambda items: asked.append(items) or make(items)
    result, _ = predict_long_video(predictor, item_of(path), 2.0, 1.0)
    assert not result.ok
    assert len(asked) == 1
    assert [path.name for path in poses.poses._folder.iterdir()] == [LOCK_FILE]
    tiny_frames = [np.zeros((1, 40, 3), np.uint8)] * 9
    assert not predictor.frames(item_of("memory"), FrameSpan(tiny_frames)).ok


def test_what_is_interrupted_is_answered_when_it_is_asked_again(
    skeleton: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dots(tmp_path / "walk.mp4", walk(60))
    predictor = load(skeleton, device="cpu")
    interrupted: list[object] = []

    def as_completed(futures: list[Any]) -> Any:
        interrupted.append(futures)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pose_files, "as_completed", as_completed)
        with pytest.raises(KeyboardInterrupt):
            predictor.predict(path)
    assert len(interrupted) == 1
    assert predictor.predict(path)[0].status == "unsure"


def test_a_well_lit_video_is_not_lit_before_the_estimator(
    skeleton: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = PoseRecipe("dots", light="auto_gamma", imports=("tests.pose.estimators",))
    monkeypatch.setattr(pose_input, "pose_recipe_from_cfg", lambda cfg: recipe)
    for dark, light in ((True, "; auto_gamma 64, means of 3 frames; "), (False, "; none; ")):
        assert light in load(skeleton, device="cpu", dark=dark).about["poses"]


def test_a_killed_programs_poses_go_when_the_next_one_starts(
    skeleton: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / f"{pose_input.FOLDER_PREFIX}abcd1234"
    left.mkdir()
    (left / LOCK_FILE).touch()
    (left / "x.pose.npz").touch()
    other = tmp_path / f"{pose_input.FOLDER_PREFIX}mine"
    other.mkdir()
    predictor = load(skeleton, device="cpu")
    reader: Any = predictor.input.reader
    folder = reader.poses._folder
    assert sorted(tmp_path.iterdir()) == sorted([folder, other])
    del predictor, reader
    gc.collect()
    assert list(tmp_path.iterdir()) == [other]


def test_a_damaged_video_is_refused_whole_and_its_sound_windows_are_answered(
    skeleton: Path, tmp_path: Path
) -> None:
    path = cut_short(tmp_path / "cut.mkv", dots(tmp_path / "walk.mp4", walk(300), 30))
    predictor = load(skeleton, device="cpu")
    (whole,) = predictor.predict(path)
    assert whole.status.startswith("error: ")
    result, spans = predict_long_video(predictor, item_of(path), 2.0, 1.0)
    assert result.status.startswith("damaged: ")
    assert len(spans) >= 2
