"""Recipes: the ones that ship, their bases, and what is wrong with bad ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.pseudo.ensemble_recipe import EnsembleSpec
from nightcrawler.pseudo.label_recipe import (
    LabelRecipe,
    Thresholds,
    read_label_recipe,
    read_thresholds,
    write_thresholds,
)
from nightcrawler.pseudo.vote_recipe import read_vote_recipe
from nightcrawler.utils.errors import ConfigError, UserError
from tests.paths import ROOT
from tests.pseudo.made import yaml_file

LABEL_RECIPES = sorted((ROOT / "configs/pseudo").glob("*.yaml")) + sorted(
    (ROOT / "configs/pseudo/ug2_2022").glob("stage*.yaml")
)
VOTE_RECIPES = sorted((ROOT / "configs/vote").glob("*.yaml"))
# Their models are poses and pictures, not the experiments of a stage.
WITH_POSES = ("pose", "pose_and_pictures", "sim_to_real")


def of_stages(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.stem not in WITH_POSES]


def test_there_are_these_recipes() -> None:
    assert [path.stem for path in LABEL_RECIPES] == [
        "default",
        "distil",
        "half",
        "pose",
        "pose_and_pictures",
        "stage1",
        "stage2",
        "stage3",
        "stage4",
    ]
    assert [path.stem for path in VOTE_RECIPES] == [
        "default",
        "pose",
        "sim_to_real",
        "ug2_2022",
    ]


@pytest.mark.parametrize("path", of_stages(LABEL_RECIPES), ids=lambda path: path.stem)
def test_label_recipes_name_the_experiments_of_a_stage(path: Path) -> None:
    recipe = read_label_recipe(path)
    for stage in ("exp_adapt_bn", "exp_pseudo_stage1", "exp_pseudo_stage2", "exp_pseudo_stage3"):
        experiments = {path.parent.name for path in (ROOT / stage).glob("*/config.yaml")}
        assert experiments == set(recipe.ensemble.folders.values())
    assert recipe.ensemble.pairs == ((1, 1),) * 4
    assert recipe.labels == (
        "label-free" if path.stem in ("default", "distil", "half") else "oracle"
    )


@pytest.mark.parametrize("path", of_stages(VOTE_RECIPES), ids=lambda path: path.stem)
def test_vote_recipes_have_modes_0_to_4_of_experiments_that_are_there(path: Path) -> None:
    recipe = read_vote_recipe(path)
    assert list(recipe.modes) == [0, 1, 2, 3, 4]
    for mode in recipe.modes.values():
        assert all(
            (ROOT / folder / "config.yaml").is_file() for folder in mode.ensemble.folders.values()
        )
        assert len(mode.ensemble.folders) == 5


def test_recipes_with_poses_are_label_free_and_name_what_is_voted() -> None:
    models = {}
    for name in ("pose", "pose_and_pictures"):
        recipe = read_label_recipe(ROOT / f"configs/pseudo/{name}.yaml")
        assert recipe.labels == "label-free"
        models[name] = set(recipe.ensemble.folders.values())
    assert models["pose"] < models["pose_and_pictures"]
    vote = read_vote_recipe(ROOT / "configs/vote/pose.yaml")
    folders = vote.modes[0].ensemble.folders.values()
    assert all((ROOT / folder / "config.yaml").is_file() for folder in folders)
    # Experiments of the pipeline's own folder.
    chain = (ROOT / "configs/pipeline/sim_to_real.yaml").read_text()
    voters = read_vote_recipe(ROOT / "configs/vote/sim_to_real.yaml").modes[0].ensemble
    assert all(folder.split("/")[0] in chain for folder in voters.folders.values())


def test_the_default_recipes_are_sound() -> None:
    labels, vote = (
        read_label_recipe(ROOT / "configs/pseudo/default.yaml"),
        read_vote_recipe(VOTE_RECIPES[0]),
    )
    ensembles = [labels.ensemble, *(mode.ensemble for mode in vote.modes.values())]
    for ensemble in ensembles:
        # Neither temperature depends on the number of clips.
        assert set(ensemble.scores) in ({"probs"}, {"softmax"})
        assert ensemble.normalize
        np.testing.assert_allclose(ensemble.mixture(7).weights.sum(axis=1), 1)
        assert not ensemble.overrule
    assert not vote.softmax_again
    assert not any(mode.switches for mode in vote.modes.values())
    assert vote.tie == "probability"
    assert labels.classes == vote.classes == []


def test_the_published_recipes_are_as_odd_as_they_were() -> None:
    stage = read_label_recipe(ROOT / "configs/pseudo/ug2_2022/stage3.yaml")
    weights = stage.ensemble.mixture(11).weights
    np.testing.assert_allclose(weights.sum(axis=1), [0.95] * 6 + [1, 1] + [0.95] * 3)
    assert weights[6].tolist() == [0.8, 0.2, 0, 0]
    assert stage.thresholds is not None
    assert dict(zip(stage.classes, stage.thresholds, strict=True))["Walk"] == 0.712
    vote = read_vote_recipe(ROOT / "configs/vote/ug2_2022.yaml")
    assert vote.mode(0).ensemble.pairs == ((1, 3),) * 4 + ((1, 1),)
    assert vote.mode(4).ensemble.pairs == ((3, 3),) * 5
    np.testing.assert_allclose(
        vote.mode(3).ensemble.mixture(11).weights.sum(axis=1), [1] * 6 + [0.3, 0.3] + [1] * 3
    )
    assert vote.mode(1).ensemble.overrule == {5: 3, 9: 3}
    turn, walk = 8, 9
    assert (vote.mode(1).switches[2].source, vote.mode(1).switches[2].gate) == (turn, walk)
    assert (vote.voters, vote.tie, vote.softmax_again) == ([1, 4], "class", True)


def label_recipe(folder: Path, text: str) -> LabelRecipe:
    return read_label_recipe(yaml_file(folder, text))


MODELS = "MODELS: {a: one, b: two}\n"


def test_a_small_recipe_has_sound_defaults(tmp_path: Path) -> None:
    found = label_recipe(tmp_path, MODELS)
    assert found.ensemble == EnsembleSpec({"a": "one", "b": "two"}, ("probs",) * 2, ((1, 1),) * 2)
    assert found.method == "all"
    # What does not say how its numbers were chosen is not taken for label-free.
    assert found.labels == "oracle"
    assert found.ensemble.mixture(3).weights.tolist() == [[0.5, 0.5]] * 3


def test_a_base_is_changed_key_by_key(tmp_path: Path) -> None:
    yaml_file(tmp_path, MODELS + "ENSEMBLE: {WEIGHTS: equal, NORMALIZE: False}\n", "base.yaml")
    found = label_recipe(tmp_path, "_BASE_: base.yaml\nENSEMBLE:\n  WEIGHTS: {b: 0.7}\n").ensemble
    assert (found.weights, found.normalize) == ((0.0, 0.7), False)
    yaml_file(tmp_path, MODELS + "ENSEMBLE:\n  WEIGHTS: {a: 0.2}\n", "base.yaml")
    assert (
        label_recipe(tmp_path, "_BASE_: base.yaml\nENSEMBLE: {WEIGHTS: equal}\n").ensemble.weights
        is None
    )


def test_bases_do_not_multiply(tmp_path: Path) -> None:
    """Each of five files names the next one four times: 341 reads, and 16 times as many with two more."""
    for number in range(5):
        text = f"_BASE_: [{', '.join(4 * [f'{number + 1}.yaml'])}]\n"
        (tmp_path / f"{number}.yaml").write_text(text)
    (tmp_path / "5.yaml").write_text("LABELS: label-free\n")
    with pytest.raises(UserError, match="more than 64 bases in all"):
        read_label_recipe(tmp_path / "0.yaml")


def test_a_file_that_is_its_own_base_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a file its own base"):
        label_recipe(tmp_path, "_BASE_: recipe.yaml\n")


CLASSES = "CLASSES: [x, y]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "MODELS: expected model: folder"),
        ("MODELS: [a]\n", ":1: MODELS: ['a'], expected name: value lines"),
        ("MODELS: {a.b: one}\n", "must not hold a dot"),
        (MODELS + "WEIGTHS: 1\n", ":2: WEIGTHS: unknown key"),
        (MODELS + "LABELS: none\n", ":2: LABELS: 'none', expected label-free, oracle"),
        (MODELS + "CLASSES: [x, x]\n", "x is given more than once"),
        (MODELS + "ENSEMBLE: {RULES: []}\n", "ENSEMBLE.RULES: unknown key"),
        (
            MODELS + "ENSEMBLE: {SCORES: logits}\n",
            "ENSEMBLE.SCORES: 'logits', expected one of probs",
        ),
        (MODELS + "ENSEMBLE:\n  SCORES: {a: probs}\n", "one for each of a, b"),
        (MODELS + "ENSEMBLE: {NORMALIZE: 1}\n", "expected True or False"),
        (MODELS + "ENSEMBLE: {VIEWS: [1, 0]}\n", "expected [views, crops]"),
        (
            MODELS + "ENSEMBLE: {VIEWS: [1, 2]}\n",
            "[1, 2], expected [views, crops] with 1 crop or 3",
        ),
        (
            MODELS + "ENSEMBLE: {LEADER: a}\n",
            "ENSEMBLE.LEADER: a has no effect without ENSEMBLE.LED",
        ),
        (MODELS + "ENSEMBLE: {WEIGHTS: [1, 2]}\n", "expected model: number"),
        (
            MODELS + "ENSEMBLE:\n  WEIGHTS: {c: 1}\n",
            ":3: ENSEMBLE.WEIGHTS: 'c' is not one of MODELS",
        ),
        (MODELS + "ENSEMBLE:\n  WEIGHTS: {a: -1}\n", "expected numbers from 0"),
        (MODELS + "ENSEMBLE:\n  WEIGHTS: {a: 0}\n", "not all 0"),
        (
            MODELS + "ENSEMBLE:\n  NORMALIZE: False\n  WEIGHTS: {a: 1, b: 0.1}\n",
            "sum to 1.1: more than 1",
        ),
        (
            MODELS + CLASSES + "ENSEMBLE:\n  LED: {x: {a: 1}}\n",
            "ENSEMBLE.LEADER: None, expected one of a, b",
        ),
        (MODELS + CLASSES + "ENSEMBLE:\n  LEADER: a\n  LED: {z: {a: 1}}\n", "'z' is not a class"),
        (
            MODELS + CLASSES + "ENSEMBLE:\n  LEADER: a\n  LED: {x: 0.5}\n",
            "0.5, expected model: number",
        ),
        (MODELS + CLASSES + "ENSEMBLE:\n  LEADER: a\n  LED: 3\n", "3, expected name: value lines"),
        (MODELS + "ENSEMBLE:\n  OVERRULE: {x: a}\n", "'x' is not a class"),
        (MODELS + CLASSES + "ENSEMBLE:\n  OVERRULE: {x: c}\n", "'c' is not one of MODELS"),
        (MODELS + "SELECT: {METHOD: best}\n", "'best', expected all, thresholds"),
        (MODELS + "SELECT: {METHOD: thresholds}\n", "there are no SELECT.THRESHOLDS"),
        (MODELS + "SELECT: {METHOD: all, FRACTION: 0.5}\n", "SELECT.FRACTION: unknown key"),
        (
            MODELS + CLASSES + "SELECT:\n  METHOD: thresholds\n  THRESHOLDS: {x: 0.5}\n",
            "for each of CLASSES (x, y)",
        ),
        (
            MODELS + CLASSES + "SELECT:\n  METHOD: thresholds\n  THRESHOLDS: {x: 0.5, y: 2}\n",
            "y: 2, expected",
        ),
        (MODELS + "SELECT: {METHOD: top_fraction, FRACTION: 0}\n", "SELECT.FRACTION: 0, expected"),
        (MODELS + "SELECT: {METHOD: top_fraction, FRACTION: []}\n", "SELECT.FRACTION: []"),
        (
            MODELS + CLASSES + "SELECT:\n  METHOD: balanced\n  PRIOR: {x: 0, y: 1}\n",
            "numbers above 0",
        ),
    ],
)
def test_a_bad_label_recipe_is_an_error_with_its_place(
    text: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        label_recipe(tmp_path, text)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "recipe.yaml"))
    assert "\n" not in str(caught.value)


MODES = 'MODES:\n  "0": {WEIGHTS: equal}\n  "3": {VIEWS: [3, 3], WEIGHTS: {a: 1}}\n'


def test_a_mode_changes_whole_values_of_the_ensemble(tmp_path: Path) -> None:
    shared = "ENSEMBLE: {VIEWS: [1, 3], WEIGHTS: {a: 0.4, b: 0.6}}\n"
    found = read_vote_recipe(yaml_file(tmp_path, MODELS + shared + MODES))
    assert found.mode(0).ensemble.weights is None
    assert found.mode(3).ensemble.weights == (1.0, 0.0)
    assert [found.mode(number).ensemble.pairs[0] for number in (0, 3)] == [(1, 3), (3, 3)]
    assert (found.voters, found.tie) == ([0, 3], "probability")
    with pytest.raises(UserError, match="mode 1: the recipe has modes 0, 3"):
        found.mode(1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MODELS, "MODES: none: expected modes by their quoted numbers"),
        (MODELS + "MODES:\n  first: {WEIGHTS: equal}\n", "MODES: first: expected"),
        (MODELS + MODES + "VOTE: {MODES: [0, 1]}\n", "VOTE.MODES: [0, 1], expected some of [0, 3]"),
        (MODELS + MODES + "VOTE: {MODES: [0, 3, 3]}\n", "expected some of [0, 3], each once"),
        (MODELS + MODES + '  "03": {WEIGHTS: equal}\n', "MODES: 0, 3, 03: expected"),
        (MODELS + MODES + "VOTE: {TIE: coin}\n", "VOTE.TIE: 'coin'"),
        (MODELS + MODES + "OUTPUT: {FORM: x}\n", "OUTPUT.FORM: unknown key"),
        (MODELS + 'MODES:\n  "0": {TIE: class}\n', "ENSEMBLE.TIE: unknown key"),
        (
            MODELS + 'MODES:\n  "0": {RULES: [{FROM: x}]}\n',
            "ENSEMBLE.RULES: row 1: expected the keys",
        ),
    ],
)
def test_a_bad_vote_recipe_is_an_error_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_vote_recipe(yaml_file(tmp_path, text))
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_thresholds_are_read_back_bit_for_bit(tmp_path: Path) -> None:
    odd = [1 / 3, 1e-5, 0.1 + 0.2, 1.0, 0.0]
    names = ["yes", "No: way", "é", "3", "a.b"]
    before = Thresholds(names, "oracle", odd)
    write_thresholds(tmp_path / "t.yaml", before, "A note.")
    assert (
        (tmp_path / "t.yaml").read_text(encoding="utf-8").startswith("# A note.\nLABELS: oracle\n")
    )
    assert read_thresholds(tmp_path / "t.yaml") == before


def test_bad_thresholds_are_errors(tmp_path: Path) -> None:
    for text, said in (
        (CLASSES, "THRESHOLDS: missing"),
        (CLASSES + "THRESHOLDS: {x: 1}\n", "for each"),
        ("A: 1\n", "unknown"),
    ):
        with pytest.raises(ConfigError, match=said):
            read_thresholds(yaml_file(tmp_path, text))


def test_other_numbers_of_models_need_a_recipe_that_treats_all_alike() -> None:
    alike = EnsembleSpec({"a": "1", "b": "2"}, ("softmax",) * 2, ((1, 3),) * 2)
    assert alike.resized(2) is alike
    assert alike.resized(5).mixture(2).weights.tolist() == [[0.2] * 5] * 2
    assert alike.resized(5).scores == ("softmax",) * 5
    with pytest.raises(UserError, match="the recipe mixes 2 models"):
        replace(alike, pairs=((1, 3), (3, 3))).resized(3)
    weighed = alike.reweighed([3, 1])
    assert weighed.mixture(1).weights.tolist() == [[3, 1]]
    with pytest.raises(UserError, match="mixes 2 models"):
        weighed.resized(3)
    with pytest.raises(UserError, match="3 weights for 2 models"):
        alike.reweighed([1, 1, 1])
    with pytest.raises(UserError, match="numbers from 0"):
        alike.reweighed([1, float("nan")])
