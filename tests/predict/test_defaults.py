"""The models inside the package: with people's movements where these can be seen, else without."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import nightcrawler
from nightcrawler.cli import main as program
from nightcrawler.predict import defaults, pose_input
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.trust import Judge
from nightcrawler.prepare.extract_poses import ExtractionOptions
from nightcrawler.prepare.pose_files import PoseRecipe
from nightcrawler.utils.errors import UserError
from tests.predict.test_pose_input import item_of
from tests.prepare.test_extract_poses import dots, walk

OPTIONS = PredictOptions(device="cpu")
PICTURES = [
    "demo/mvit_b32_k600",
    "demo/sf32_k700",
    "demo/uniformer_b32_k600",
    "demo/uniformer_b32_ssv2",
]


@pytest.fixture
def sees_dots(monkeypatch: pytest.MonkeyPatch) -> None:
    looking = ExtractionOptions(search_crops=False)
    recipe = PoseRecipe("dots", light="none", looking=looking, imports=("tests.pose.estimators",))
    monkeypatch.setattr(pose_input, "pose_recipe_from_cfg", lambda cfg: recipe)
    monkeypatch.setattr(defaults, "brings_model", lambda: True)


def test_movements_have_most_of_the_say_where_somebody_is_seen(
    sees_dots: None, tmp_path: Path
) -> None:
    somebody = dots(tmp_path / "walk.mp4", walk(60))
    nobody = dots(tmp_path / "none.mp4", [None] * 40)
    ensemble, note = defaults.build_default_ensemble(OPTIONS)
    assert note == defaults.WITH_POSE
    assert ensemble.model_names[0] == "poseconv"
    seen, unseen = ensemble.videos([item_of(somebody), item_of(nobody)])
    moving = nightcrawler.load(defaults.SKELETONS, device="cpu").predict(somebody)[0]
    pictures = []
    for name in PICTURES:
        results = nightcrawler.load(name, device="cpu").predict([somebody, nobody])
        pictures.append([result.probabilities for result in results])
    means = np.mean(pictures, axis=0)
    expected = 0.8 * moving.probabilities + 0.2 * means[0]
    np.testing.assert_allclose(seen.probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(unseen.probabilities, means[1], atol=1e-5)


@pytest.mark.parametrize("fault", ["not installed", "does not start"])
def test_pictures_answer_alone_where_nobody_can_be_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str
) -> None:
    def cannot_start(recipe: PoseRecipe) -> None:
        raise UserError("estimator 'mediapipe' does not start")

    monkeypatch.setattr(defaults, "brings_model", lambda: fault == "does not start")
    monkeypatch.setattr(pose_input, "VideoPoses", cannot_start)
    ensemble, note = defaults.build_default_ensemble(OPTIONS)
    assert [f"demo/{name}" for name in ensemble.model_names] == PICTURES
    assert note.startswith(defaults.WITHOUT_POSE)
    # Who has it installed already is not told to install it.
    assert ("nightcrawler-video[pose]" in note) == (fault == "not installed")


def test_a_package_without_models_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "demo_models", dict)
    with pytest.raises(UserError, match="no demo models: give --experiment"):
        defaults.build_default_ensemble(OPTIONS)


def test_the_note_is_told_once(
    sees_dots: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    somebody = dots(tmp_path / "walk.mp4", walk(60))
    assert program.main(["predict", somebody, "--csv", str(tmp_path / "out.csv")]) == 0
    shown = capsys.readouterr()
    notes = [line for line in shown.err.splitlines() if line.startswith("note: ")]
    assert notes == [defaults.WITH_POSE]
    assert "of 5 models)" in shown.out


def test_nonsense_has_a_status_that_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(defaults, "brings_model", lambda: False)
    bars = np.zeros((30, 64, 80, 3), np.uint8)
    for place in range(8):
        bars[:, :, 10 * place : 10 * place + 10] = np.array([place & 1, place & 2, place & 4]) > 0
    bars *= 255
    dark = bars // 8
    noise = np.random.default_rng(0).integers(0, 3, bars.shape).astype(np.uint8)
    clips = {
        "bars": (bars, "not dark"),
        "black": (np.zeros_like(bars), "too dark even when lit"),
        "noise": (noise, "too dark even when lit"),
        "still": (dark[:1], "too short"),
        "short": (dark[:7], "too short"),
    }
    ensemble, _ = defaults.build_default_ensemble(OPTIONS)
    found = {}
    for name, (frames, _) in clips.items():
        (found[name],) = ensemble.predict(frames)
    assert {name: one.status for name, one in found.items()} == {
        name: status for name, (_, status) in clips.items()
    }
    # A dark picture that is long enough: pictures alone are never sure.
    (still,) = ensemble.predict(dark)
    assert still.status in ("unsure", "models disagree")
    assert ensemble.judge.about()["sure_from"] is None
    assert nightcrawler.load(PICTURES[0], device="cpu").judge.threshold == math.inf


def test_models_of_people_ask_for_a_lead(sees_dots: None) -> None:
    ensemble, _ = defaults.build_default_ensemble(OPTIONS)
    assert ensemble.judge == Judge()
