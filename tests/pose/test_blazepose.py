import hashlib
import importlib.util
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.pose.estimators import blazepose
from nightcrawler.pose.estimators.base import UNRELATED, EstimatorOptions, build_estimator
from nightcrawler.utils.errors import NoPersonError, UserError
from tests.paths import shared

HAS_MEDIAPIPE = importlib.util.find_spec("mediapipe") is not None
needs_mediapipe = pytest.mark.skipif(
    not HAS_MEDIAPIPE, reason="the extra 'pose' is not installed: pip install -e '.[pose]'"
)


def pretend(monkeypatch, release):
    """As if a release of mediapipe were installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if release else None)
    monkeypatch.setattr(metadata, "version", lambda name: release)


@pytest.mark.parametrize(
    ("release", "message"),
    [
        ("", r"^estimator 'mediapipe' needs the extra pose: python -m pip install 'nightcrawler-"),
        ("0.9.3.0", "mediapipe 0.9.3.0 is too old: python -m pip install"),
        ("0.10.30", "mediapipe 0.10.30 brings no model: give a .task file"),
        ("1.2.3", r"brings no model: give a .task file .*, or install 0.10.14 to 0.10.21"),
    ],
)
def test_what_is_missing_is_told_in_one_line(monkeypatch, release, message):
    pretend(monkeypatch, release)
    with pytest.raises(UserError, match=message) as caught:
        build_estimator("mediapipe", EstimatorOptions())
    assert "\n" not in str(caught.value)


def test_a_model_of_another_kind_is_told(monkeypatch, tmp_path):
    pretend(monkeypatch, "1.2.3")
    with pytest.raises(UserError, match="no such model file"):
        build_estimator("mediapipe", EstimatorOptions(model=str(tmp_path / "none.task")))
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(UserError, match=r"reads \.task files"):
        build_estimator("mediapipe", EstimatorOptions(model=str(tmp_path / "net.onnx")))


def test_poses_of_each_task_file_are_a_source_of_their_own(monkeypatch, tmp_path):
    pretend(monkeypatch, "0.10.14")
    monkeypatch.setattr(blazepose, "_TaskRunner", lambda options: None)
    monkeypatch.setattr(blazepose, "_SolutionRunner", lambda: None)
    sources = [build_estimator("mediapipe", EstimatorOptions()).source]
    for name, content in (("lite.task", b"lite"), ("heavy.task", b"heavy"), ("lite.task", b"new")):
        (tmp_path / name).write_bytes(content)
        options = EstimatorOptions(model=str(tmp_path / name))
        sources.append(build_estimator("mediapipe", options).source)
    assert len(set(sources)) == 4
    assert sources[1] == f"mediapipe 0.10.14 lite.task {hashlib.sha256(b'lite').hexdigest()[:12]}"


def test_an_unknown_estimator_is_told_with_the_known_ones():
    with pytest.raises(UserError, match=r"unknown estimator 'mediapip'.*did you mean 'mediapipe'"):
        build_estimator("mediapip", EstimatorOptions())


@needs_mediapipe
def test_an_unreadable_task_file_is_told_without_the_words_of_the_library(tmp_path):
    (tmp_path / "text.task").write_text("no zip archive")
    with pytest.raises(UserError, match=r"text.task: cannot be read as the pose landmarker"):
        build_estimator("mediapipe", EstimatorOptions(model=str(tmp_path / "text.task")))


@needs_mediapipe
def test_nobody_is_seen_in_noise():
    frames = np.random.default_rng(0).integers(0, 40, (3, 96, 128, 3), np.uint8)
    estimator = build_estimator("mediapipe", EstimatorOptions())
    assert estimator.source == f"mediapipe {metadata.version('mediapipe')}"
    for fps in (15.0, UNRELATED):
        points = estimator.estimate(frames, fps)
        assert points.dtype == np.float32
        assert points.shape[1:] == (3, 33, 3)
        assert np.isnan(points).all()


def lit_walk():
    from nightcrawler.data.lowlight.enhance.gamma import apply_gamma
    from nightcrawler.data.video.decode import FileReader, read_frames

    clip = shared() / "clips/arid/Walk/Walk_10_11.mp4"
    frames = read_frames(FileReader(), clip, lambda count: range(0, count, 3)).frames
    return apply_gamma(frames, 0.4)


@needs_mediapipe
def test_a_real_walk_in_the_dark_is_seen_upright_and_in_pixels():
    frames = lit_walk()
    estimator = build_estimator("mediapipe", EstimatorOptions())
    points = estimator.estimate(frames, 10.0)
    seen = points[0, np.isfinite(points[0, :, 0, 0])]
    assert len(seen) > 0.7 * len(frames)
    # Nose above hips above ankles, all of it in the picture.
    nose, hips, ankles = seen[:, 0, 1], seen[:, 23:25, 1].mean(1), seen[:, 27:29, 1].mean(1)
    assert (nose < hips).mean() > 0.95
    assert (hips < ankles).mean() > 0.95
    assert 0 < np.median(nose) < np.median(ankles) < 1.2 * frames.shape[1]
    estimator.reset()
    again = estimator.estimate(frames, 10.0)
    np.testing.assert_array_equal(points, again)


def task_file(path):
    """A `.task` file of the models that the wheel holds: the same estimator in the newer form."""
    from mediapipe.tasks.python.metadata.metadata_writers import metadata_writer

    modules = Path(importlib.util.find_spec("mediapipe").origin).parent / "modules"
    parts = (
        ("pose_detector.tflite", "pose_detection/pose_detection.tflite", 127.5, 127.5),
        ("pose_landmarks_detector.tflite", "pose_landmark/pose_landmark_full.tflite", 0.0, 255.0),
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, source, mean, std in parts:
            model = bytearray((modules / source).read_bytes())
            writer = metadata_writer.MetadataWriter.create(model)
            writer.add_image_input([mean], [std])
            archive.writestr(name, bytes(writer.populate()[0]))
    return str(path)


@needs_mediapipe
def test_a_task_file_of_the_same_models_sees_the_same_person(tmp_path):
    frames = lit_walk()
    one = build_estimator("mediapipe", EstimatorOptions()).estimate(frames, UNRELATED)
    model = task_file(tmp_path / "pose.task")
    two = build_estimator("mediapipe", EstimatorOptions(model=model, max_people=1))
    seen = two.estimate(frames, UNRELATED)
    both = np.isfinite(one[0, :, 0, 0]) & np.isfinite(seen[0, :, 0, 0])
    assert both.mean() > 0.6
    assert np.median(np.abs(one - seen)[0, both, :, :2]) < 2
    # In order, and once more after a reset: times begin anew.
    for _ in range(2):
        assert two.estimate(frames, 10.0).shape == one.shape
        two.reset()


@needs_mediapipe
def test_a_dog_that_is_taken_for_a_person_is_nobody():
    from nightcrawler.data.skeleton.reader import seen_track
    from nightcrawler.pose.files import Pose
    from nightcrawler.pose.people import follow_people, seen_frames
    from tests.pose.animals import FPS, HEIGHT, WIDTH, trotting_dog

    estimator = build_estimator("mediapipe", EstimatorOptions())
    points = follow_people(estimator.estimate(trotting_dog(16), FPS), FPS, 1, estimator.layout)
    assert seen_frames(points[0]).sum() >= 8
    pose = Pose(points, FPS, estimator.layout, width=WIDTH, height=HEIGHT)
    with pytest.raises(NoPersonError, match="goes on four legs"):
        seen_track(pose, "dog.mp4", 0.25)
