"""The scripts that make pseudo-labels and thresholds, end to end on made-up results."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightcrawler.pseudo.label_recipe import read_thresholds
from nightcrawler.pseudo.predictions import Predictions, read_results
from nightcrawler.utils import command_line
from nightcrawler.utils.io import sha256_file
from tests.paths import ROOT, shared
from tests.pseudo.made import made, permuted, yaml_file
from tests.tools.skeleton import (
    CLASSES,
    MODELS,
    NAMES,
    TRUTH,
    VOTE,
    copy_project,
    results,
    rows_of,
    run,
)

STAGES = [f"gen_pseudo_tools/generate_pseudo_label_stage{stage}.py" for stage in (1, 2, 3, 4)]
EMU = "gen_pseudo_tools/generate_pseudo_label_arid_emu.py"
SCRIPTS = [*STAGES, EMU, VOTE]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project's skeleton."""
    return copy_project(tmp_path)


def stage_results(project: Path, stage: str = "exp_adapt_bn", **options: Any) -> list[Predictions]:
    """Results of the four models on unlabelled clips; what they are calibrated with is there too."""
    for seed, model in enumerate(MODELS, start=10):
        results(
            project / stage / model / "val_darkx8x64x1x1.pkl", seed, labels=TRUTH, split="val_dark"
        )
    write_list(project / "data/train_label+val_dry.csv", NAMES, TRUTH)
    return [
        results(project / stage / model / "total_unlabelx8x64x1x1.pkl", seed, **options)
        for seed, model in enumerate(MODELS)
    ]


def plain_recipe(project: Path) -> Path:
    """The default recipe with the rules of version 0.1: the plain share decides, two models agree."""
    path = project / "configs/pseudo/plain.yaml"
    path.write_text(
        "_BASE_: default.yaml\nSELECT: {AGREE: 0.5, SUPPORT: 1, CONFIDENCE: 0.5, PRECISION: 0.8}\n"
    )
    return path


def write_list(path: Path, names: Sequence[str], labels: Sequence[int]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{name},{label}\n" for name, label in zip(names, labels, strict=True)))


def precise_threshold(confidences: np.ndarray, right: np.ndarray, precision: float) -> float | None:
    """The lowest confidence from which on at least this share is right, written out."""
    for threshold in sorted(confidences.tolist()):
        if right[confidences >= threshold].mean() >= precision:
            return threshold
    return None


def mean_of(models: list[Predictions]) -> np.ndarray:
    return np.mean([one.probs.astype(np.float64) for one in models], axis=0)


def agreeing_models(models: list[Predictions], mean: np.ndarray) -> np.ndarray:
    return np.sum([one.probs.argmax(axis=1) == mean.argmax(axis=1) for one in models], axis=0)


# --- command lines ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_is_quick_and_has_examples(name: str) -> None:
    command = [sys.executable, "-X", "importtime", str(ROOT / name), "--help"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    imported = {
        line.rsplit("|", 1)[-1].strip() for line in process.stderr.splitlines() if "|" in line
    }
    assert "argparse" in imported
    assert (
        sorted(imported & {"torch", "torchvision", "timm", "av", "pandas", "sklearn", "scipy"})
        == []
    )
    assert f"python {name}" in process.stdout.split("examples:")[1]


@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_there_is_a_one_line_error(
    name: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project, name) == command_line.EXIT_USER_ERROR
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


# --- stages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_a_stage_reads_the_stage_before_and_writes_its_file(stage: int, project: Path) -> None:
    before = "exp_adapt_bn" if stage == 1 else f"exp_pseudo_stage{stage - 1}"
    unlabelled = stage_results(project, before)
    mixed = mean_of(unlabelled)
    mixed /= mixed.sum(axis=1, keepdims=True)
    assert run(project, STAGES[stage - 1], "--recipe", plain_recipe(project)) == 0
    rows = rows_of(project / f"data/pseudo/stage{stage}.csv")
    known = [read_results(project / before / model / "val_darkx8x64x1x1.pkl") for model in MODELS]
    found = mean_of(known)
    expected = []
    for label in range(5):
        own, of_known = (
            np.flatnonzero((mean.argmax(axis=1) == label) & (agreeing_models(models, mean) >= 2))
            for mean, models in ((mixed, unlabelled), (found, known))
        )
        right = np.array(TRUTH)[of_known] == label
        threshold = precise_threshold(found[of_known, label], right, 0.8)
        assert threshold is not None
        kept = own[mixed[own, label] >= threshold - 1e-12]
        assert 3 <= len(kept) <= 24, "neither floor nor ceiling of 12 clips"
        expected += kept.tolist()
    assert len(expected) < 60
    assert [row[0] for row in rows] == [NAMES[row] for row in sorted(expected)]
    for row in rows:
        assert int(row[1]) == mixed[NAMES.index(row[0])].argmax()
        np.testing.assert_allclose(
            [float(text) for text in row[2:]], mixed[NAMES.index(row[0])], rtol=1e-8
        )


def test_what_was_made_of_what_is_beside_the_file(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_results(project, config_hash="abc")
    assert run(project, STAGES[0]) == 0
    out = project / "data/pseudo/stage1.csv"
    about = json.loads(out.with_suffix(".json").read_text())
    assert about["sha256"] == sha256_file(out)
    assert about["labels"] == "label-free"
    assert about["rows"] == sum(about["rows_per_class"]) == len(rows_of(out))
    assert about["classes"] == CLASSES
    assert len(about["thresholds"]) == 5
    assert about["weights_per_class_of_leader"] == [[0.25] * 4] * 5
    files = [project / "exp_adapt_bn" / model / "total_unlabelx8x64x1x1.pkl" for model in MODELS]
    assert [one["sha256"] for one in about["inputs"]] == [sha256_file(path) for path in files]
    assert {one["config_hash"] for one in about["inputs"]} == {"abc"}
    assert capsys.readouterr().out.splitlines()[-1].endswith("label-free")


def test_files_are_the_same_whatever_the_order_of_rows_but_the_first(project: Path) -> None:
    models = stage_results(project)
    assert run(project, STAGES[0]) == 0
    before = (project / "data/pseudo/stage1.csv").read_bytes()
    for seed, model in enumerate(MODELS[1:], start=1):
        path = project / "exp_adapt_bn" / model / "total_unlabelx8x64x1x1.pkl"
        permuted(models[seed], np.random.default_rng(seed).permutation(60).tolist()).save(path)
    assert run(project, STAGES[0]) == 0
    assert (project / "data/pseudo/stage1.csv").read_bytes() == before


def test_an_oracle_input_makes_an_oracle_output(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_results(project)
    path = project / "exp_adapt_bn/sf32_k700/total_unlabelx8x64x1x1.pkl"
    one = made(60, 5, 3, names=NAMES, class_names=CLASSES)
    one.meta["labels"] = "oracle"
    one.save(path)
    assert run(project, STAGES[0]) == 0
    assert json.loads((project / "data/pseudo/stage1.json").read_text())["labels"] == "oracle"
    assert capsys.readouterr().out.splitlines()[-1].endswith("oracle")


def test_any_models_weights_and_thresholds_can_be_given(project: Path) -> None:
    paths = [project / "one.pkl", project / "two.pkl"]
    models = [results(path, seed) for seed, path in enumerate(paths)]
    out = project / "elsewhere/s.csv"
    argv = ["--predictions", *paths, "--weights", 3, 1, "--thresholds", 0.7, "--out", out]
    assert run(project, STAGES[2], *argv) == 0
    mixed = (3 * models[0].probs.astype(np.float64) + models[1].probs) / 4
    mixed /= mixed.sum(axis=1, keepdims=True)
    kept = np.flatnonzero(mixed.max(axis=1) >= 0.7)
    assert 0 < len(kept) < 60
    assert [row[0] for row in rows_of(out)] == [NAMES[row] for row in kept]
    argv[-3:-2] = [0.7, 0.8, 0.9, 1, 1]
    assert run(project, STAGES[2], *argv) == 0
    assert {int(row[1]) for row in rows_of(out)} <= {0, 1, 2}


def test_videos_that_could_not_be_read_are_said_and_left_out(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_results(project)
    results(project / "exp_adapt_bn/sf32_k700/total_unlabelx8x64x1x1.pkl", 3, bad=[4, 50])
    paths = sorted(project.glob("exp_adapt_bn/*/total*.pkl"))
    assert run(project, STAGES[3], "--predictions", *paths, "--thresholds", 0) == 0
    assert "warning: 2 of 60 videos have no prediction: row 5 '4.mp4'" in capsys.readouterr().err
    names = [row[0] for row in rows_of(project / "data/pseudo/stage4.csv")]
    assert set(NAMES) - set(names) == {NAMES[4], NAMES[50]}


def test_results_in_the_old_form_need_the_list_that_names_them(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [project / f"{i}.pkl" for i in range(2)]
    for seed, path in enumerate(paths):
        logits = made(60, 5, seed).logits
        path.write_bytes(pickle.dumps({"video_preds": logits, "video_labels": np.full(60, -1)}))
    (project / "list.csv").write_text("".join(f"{name},-1\n" for name in NAMES))
    assert run(project, STAGES[3], "--predictions", *paths) == command_line.EXIT_USER_ERROR
    assert "give the list file" in capsys.readouterr().err
    assert (
        run(
            project,
            STAGES[3],
            "--predictions",
            *paths,
            "--list",
            project / "list.csv",
            "--thresholds",
            0,
        )
        == 0
    )
    assert [row[0] for row in rows_of(project / "data/pseudo/stage4.csv")] == NAMES


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--weights", "1", "2"], "--weights: 2 weights for 4 models"),
        (["--thresholds", "0.5", "0.5"], "expected one number 0..1 or one for each of 5 classes"),
        (["--thresholds", "high"], "expected a .yaml file or numbers"),
        (["--thresholds", "absent.yaml"], "absent.yaml: no such file"),
        (["--thresholds", "1"], "none of 60 videos"),
        (["--recipe", "absent.yaml"], "absent.yaml: no such file"),
        (["--split", "arid"], "no results of split 'arid'"),
        (["--predictions", "absent.pkl"], "absent.pkl: no such results file"),
    ],
)
def test_bad_options_are_one_line_errors(
    argv: list[str], said: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_results(project)
    assert run(project, STAGES[0], *argv) == command_line.EXIT_USER_ERROR
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1
    assert not (project / "data/pseudo").exists()


@pytest.mark.parametrize("script", [STAGES[0], EMU])
def test_files_that_are_read_are_not_written(
    script: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under their own name, or under another one that has the wanted ending."""
    stage_results(project)
    write_arid(project)
    paths = sorted(project.glob("exp_adapt_bn/*/total_unlabel*.pkl"))
    recipe = plain_recipe(project)
    given = {"--recipe": [recipe], "--predictions": paths, "--list": [project / "data/arid.csv"]}
    if script == EMU:
        given["--labels"] = [project / "data/arid.csv"]
    else:
        given["--thresholds"] = [yaml_file(project, "LABELS: label-free\n")]
        given["--calibrate"] = sorted(project.glob("exp_adapt_bn/*/val_dark*.pkl"))
    argv = [word for option, files in given.items() for word in (option, *files)]
    suffix = ".yaml" if script == EMU else ".csv"
    target = project / f"target{suffix}"
    for option, files in given.items():
        before = files[-1].read_bytes()
        target.unlink(missing_ok=True)
        target.symlink_to(files[-1])
        for out in (target, files[-1]):
            assert run(project, script, *argv, "--out", out) == command_line.EXIT_USER_ERROR
            said = capsys.readouterr().err
            assert "is a file to read" in said or "expected a name that ends in" in said, option
            assert files[-1].read_bytes() == before


def test_thresholds_of_the_user_are_not_replaced(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_results(project)
    write_arid(project)
    mine = yaml_file(project, "THRESHOLDS: {Up: 0.5}\n")
    assert run(project, EMU, "--out", mine) == command_line.EXIT_USER_ERROR
    assert "exists and was not written by a search" in capsys.readouterr().err
    assert mine.read_text() == "THRESHOLDS: {Up: 0.5}\n"
    for _ in range(2):
        assert run(project, EMU, "--out", project / "found.yaml") == 0


def test_the_published_recipe_is_for_the_published_classes(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_results(project)
    assert (
        run(project, STAGES[0], "--recipe", project / "configs/pseudo/ug2_2022/stage1.yaml")
        == command_line.EXIT_USER_ERROR
    )
    assert "the recipe has Drink, Jump" in capsys.readouterr().err
    paths = sorted(project.glob("exp_adapt_bn/*/*.pkl"))[:2]
    recipe = project / "configs/pseudo/ug2_2022/stage1.yaml"
    assert (
        run(project, STAGES[0], "--recipe", recipe, "--predictions", *paths)
        == command_line.EXIT_USER_ERROR
    )
    assert "--predictions: the recipe mixes 4 models" in capsys.readouterr().err


# --- labels of the round before ---------------------------------------------------------------------------------


def test_the_moves_since_the_round_before_are_counted(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_results(project, "exp_pseudo_stage1")
    recipe = plain_recipe(project)
    assert run(project, STAGES[1], "--recipe", recipe) == 0
    first = json.loads((project / "data/pseudo/stage2.json").read_text())
    assert "churn" not in first
    assert "since stage1.csv" not in capsys.readouterr().out
    labels = {row[0]: int(row[1]) for row in rows_of(project / "data/pseudo/stage2.csv")}
    changed, *dropped = labels
    before = {name: label for name, label in labels.items() if name not in dropped[:3]}
    before[changed] = (labels[changed] + 1) % 5
    gone = [name for name in NAMES if name not in labels][:2]
    write_list(project / "data/pseudo/stage1.csv", *zip(*before.items(), strict=True))
    with open(project / "data/pseudo/stage1.csv", "a") as file:
        file.writelines(f"{name},0\n" for name in gone)
    assert run(project, STAGES[1], "--recipe", recipe) == 0
    about = json.loads((project / "data/pseudo/stage2.json").read_text())
    moved = 6 / (len(labels) + 2)
    assert about["churn"] == {
        "before": "stage1.csv",
        "before_sha256": sha256_file(project / "data/pseudo/stage1.csv"),
        "new": 3,
        "dropped": 2,
        "changed": 1,
        "kept": len(labels) - 4,
        "moved": pytest.approx(moved),
    }
    told = f"since stage1.csv: 3 new, 2 dropped, 1 changed, {len(labels) - 4} kept"
    assert f"{told} ({100 * moved:.1f} % moved)" in capsys.readouterr().out
    # Without AGREE_NEW the labels before choose nothing: those have no record, which is an oracle's.
    assert about["labels"] == "label-free"


def test_new_labels_need_the_labels_before(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = stage_results(project, "exp_pseudo_stage1")
    recipe = plain_recipe(project)
    recipe.write_text(recipe.read_text().replace("AGREE: 0.5", "AGREE: 0.5, AGREE_NEW: 1.0"))
    assert run(project, STAGES[1], "--recipe", recipe) == command_line.EXIT_USER_ERROR
    assert "AGREE_NEW compares with the labels of round 1" in capsys.readouterr().err
    assert not (project / "data/pseudo").exists()
    kept = [f"{number}.mp4" for number in range(0, 30, 2)]
    write_list(project / "before.csv", kept, [TRUTH[NAMES.index(name)] for name in kept])
    assert run(project, STAGES[1], "--recipe", recipe, "--before", project / "before.csv") == 0
    rows = rows_of(project / "data/pseudo/stage2.csv")
    votes = agreeing_models(models, mean_of(models))
    for name, label, *_ in rows:
        old = name in kept and int(label) == TRUTH[NAMES.index(name)]
        assert votes[NAMES.index(name)] >= (2 if old else 4), name
    assert {votes[NAMES.index(row[0])] for row in rows} > {4}
    about = json.loads((project / "data/pseudo/stage2.json").read_text())
    # A list without a record may hold labels of dark clips, and now it does choose.
    assert (about["labels"], about["agree_new"]) == ("oracle", 1.0)


# --- thresholds by labels of clips that look dark ---------------------------------------------------------------


def calibrated_with(project: Path, split: str, *argv: Any) -> int:
    """The exit code of stage 1 with results of another split to calibrate with."""
    paths = [project / f"{model}_{split}.pkl" for model in MODELS]
    for seed, path in enumerate(paths, start=20):
        results(path, seed, labels=TRUTH, split=split)
    return run(project, STAGES[0], "--calibrate", *paths, *argv)


@pytest.mark.parametrize(
    ("split", "use"), [("val_dark", "label-free"), ("arid", "oracle"), ("mine", "oracle")]
)
def test_labels_of_dark_clips_need_an_oracle_to_be_asked_for(
    split: str, use: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_results(project)
    assert calibrated_with(project, split) == (
        0 if use == "label-free" else command_line.EXIT_USER_ERROR
    )
    if use == "oracle":
        assert (
            "are those of dark clips, so all that follows would be an oracle"
            in capsys.readouterr().err
        )
        assert not (project / "data/pseudo").exists()
    assert calibrated_with(project, split, "--oracle") == 0
    about = json.loads((project / "data/pseudo/stage1.json").read_text())
    assert (about["labels"], [one["split"] for one in about["known"]]) == (use, [split] * 4)
    assert capsys.readouterr().out.splitlines()[-1].endswith(use)


def test_an_oracle_takes_results_of_arid_by_itself(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_results(project)
    assert run(project, STAGES[0], "--oracle") == command_line.EXIT_USER_ERROR
    assert "no results of split 'arid'" in capsys.readouterr().err
    for seed, model in enumerate(MODELS, start=20):
        results(
            project / "exp_adapt_bn" / model / "aridx8x64x1x1.pkl", seed, labels=TRUTH, split="arid"
        )
    assert run(project, STAGES[0], "--oracle") == 0
    assert json.loads((project / "data/pseudo/stage1.json").read_text())["labels"] == "oracle"


def test_what_calibrated_is_beside_the_file(project: Path) -> None:
    stage_results(project)
    assert run(project, STAGES[0], "--recipe", plain_recipe(project)) == 0
    about = json.loads((project / "data/pseudo/stage1.json").read_text())
    assert about["rules"] == ["precision"] * 5
    settings = ("method", "precision", "split", "agree", "support", "confidence")
    assert [about[name] for name in settings] == ["calibrated", 0.8, "val_dark", 0.5, 1, 0.5]
    for one in about["evidence"]:
        assert one["lower_bound"] == pytest.approx(one["right"] / one["clips"])
        assert one["predicted"] >= one["clips"] >= one["right"]
        assert one["lower_bound"] >= 0.8
    files = [project / "exp_adapt_bn" / model / "val_darkx8x64x1x1.pkl" for model in MODELS]
    assert [one["sha256"] for one in about["known"]] == [sha256_file(path) for path in files]


def test_a_class_of_few_clips_keeps_the_same_share_in_every_round(project: Path) -> None:
    """Random models: three of four agree on few clips, and they are no reason to keep more."""
    kept = []
    for stage in (1, 2, 3, 4):
        before = "exp_adapt_bn" if stage == 1 else f"exp_pseudo_stage{stage - 1}"
        models = stage_results(project, before)
        assert run(project, STAGES[stage - 1]) == 0
        about = json.loads((project / f"data/pseudo/stage{stage}.json").read_text())
        predicted = [one["predicted"] for one in about["evidence"]]
        assert about["rules"] == ["support" if one < 5 else "fraction" for one in predicted]
        kept.append(about["rows_per_class"])
        mean = mean_of(models)
        agreed = mean.argmax(axis=1)[agreeing_models(models, mean) >= 3]
        assert kept[-1] == [-(-one // 2) for one in np.bincount(agreed, minlength=5).tolist()]
    assert kept == [kept[0]] * 4


def test_a_class_that_the_labelled_list_does_not_have_keeps_one_video(project: Path) -> None:
    stage_results(project)
    write_list(project / "list.csv", NAMES[:40], [label % 4 for label in range(40)])
    assert run(project, STAGES[0], "--labelled", project / "list.csv") == 0
    about = json.loads((project / "data/pseudo/stage1.json").read_text())
    assert (about["rows_per_class"][4], about["rules"][4]) == (1, "ceiling")
    assert about["labels"] == "oracle", (
        "no bright split has a list of this name: its labels may be of dark clips"
    )


def test_results_of_several_gammas_are_found(project: Path) -> None:
    stage_results(project)
    for path in sorted(project.glob("exp_adapt_bn/*/total_unlabel*.pkl")):
        path.rename(path.with_name(f"{path.stem}xg0.2-0.35-1.pkl"))
    assert run(project, STAGES[0]) == 0


def test_results_of_other_weights_do_not_calibrate(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_results(project, checkpoint_sha256="ab")
    assert run(project, STAGES[0]) == command_line.EXIT_USER_ERROR
    assert (
        "was made with other weights than uniformer_b32_ssv2/total_unlabelx8x64x1x1.pkl"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ["--oracle", "--thresholds", "0.5"],
            "have no effect: thresholds are not calibrated (thresholds)",
        ),
        (["--calibrate", "a.pkl"], "--calibrate: 1 results for 4 models"),
        (["--labelled", "absent.csv"], "absent.csv: cannot be read (No such file or directory)"),
        (["--labelled", "high.csv"], "high.csv: largest label 7, expected 0..4"),
        (
            ["--predictions", "exp_adapt_bn/sf32_k700/total_unlabelx8x64x1x1.pkl"],
            "the recipe calibrates, so give --calib",
        ),
    ],
)
def test_bad_calibrations_are_one_line_errors(
    argv: list[str],
    said: str,
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage_results(project)
    write_list(project / "high.csv", ["a.mp4"], [7])
    monkeypatch.chdir(project)
    assert run(project, STAGES[0], *argv) == command_line.EXIT_USER_ERROR
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


# --- thresholds against labels ----------------------------------------------------------------------------------


def write_arid(project: Path) -> None:
    (project / "data").mkdir(exist_ok=True)
    rows = [f"{name},{label}\n" for name, label in zip(NAMES, TRUTH, strict=True) if "/" in name]
    (project / "data/arid.csv").write_text("".join(rows))


@pytest.mark.parametrize("goal", [["--precision", "0.8"], ["--recall", "0.6"], ["--f1"], []])
def test_thresholds_that_were_found_are_what_a_stage_takes(
    goal: list[str], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = mean_of(stage_results(project))
    write_arid(project)
    assert run(project, EMU, *goal) == 0
    out = capsys.readouterr().out
    path = project / "data/pseudo/thresholds_stage1.yaml"
    found = read_thresholds(path)
    assert (found.labels, found.classes) == ("oracle", CLASSES)
    assert out.splitlines()[-1].endswith("oracle")
    assert [line.split()[0] for line in out.splitlines()[1:7]] == [*CLASSES, "all"]
    assert run(project, STAGES[0], "--thresholds", path) == 0
    rows = rows_of(project / "data/pseudo/stage1.csv")
    assert len(rows) == int(out.splitlines()[6].split()[1])
    assert json.loads((project / "data/pseudo/stage1.json").read_text())["labels"] == "oracle"
    for label in range(5):
        known = [NAMES.index(row[0]) for row in rows if int(row[1]) == label and "/" in row[0]]
        right = sum(TRUTH[row] == label for row in known)
        if goal[:1] == ["--precision"] and known:
            assert right >= 0.8 * len(known)
        if goal[:1] == ["--recall"]:
            true = [row for row in range(30, 60) if TRUTH[row] == label]
            reachable = sum(mixed[row].argmax() == label for row in true)
            assert right >= min(0.6 * len(true), reachable)


@pytest.mark.parametrize("split", ["val_dry", "val_dark"])
def test_labels_of_bright_clips_are_label_free(split: str, project: Path) -> None:
    for seed, model in enumerate(MODELS):
        results(project / "exp_adapt_bn" / model / f"{split}x8x64x1x1.pkl", seed, split=split)
    write_arid(project)
    (project / "data/arid.csv").rename(project / "data/val_dry.csv")
    assert run(project, EMU, "--split", split) == 0
    assert read_thresholds(project / "data/pseudo/thresholds_stage1.yaml").labels == "label-free"


def test_results_of_dark_clips_make_an_oracle_whatever_split_is_named(project: Path) -> None:
    for seed, model in enumerate(MODELS):
        results(project / "exp_adapt_bn" / model / "val_darkx8x64x1x1.pkl", seed, split="arid")
    write_arid(project)
    assert run(project, EMU, "--split", "val_dark", "--labels", project / "data/arid.csv") == 0
    assert read_thresholds(project / "data/pseudo/thresholds_stage1.yaml").labels == "oracle"


def test_thresholds_of_other_classes_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_results(project)
    path = yaml_file(project, "LABELS: label-free\nCLASSES: [a, b]\nTHRESHOLDS: {a: 0.5, b: 0.5}\n")
    assert run(project, STAGES[0], "--thresholds", path) == command_line.EXIT_USER_ERROR
    assert "classes a, b, expected Up, Down" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--precision", "0"], "--precision 0.0: expected"),
        (["--recall", "1.5"], "--recall 1.5: expected"),
        (["--stage", "0"], "--stage 0"),
        (["--labels", "absent.csv"], "absent.csv: cannot be read"),
        (["--labels", "other.csv"], "has no label of any of the 60 predicted videos"),
        (["--labels", "high.csv"], "label 7, but the predictions have 5 classes"),
        (["--pseudo", "unknown.csv"], "a pseudo-label must be a class"),
    ],
)
def test_bad_labels_are_one_line_errors(
    argv: list[str],
    said: str,
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage_results(project)
    write_arid(project)
    monkeypatch.chdir(project)
    Path("other.csv").write_text("x.mp4,1\n")
    Path("high.csv").write_text("0.mp4,7\n")
    Path("unknown.csv").write_text("0.mp4,-1\n")
    assert run(project, EMU, *argv) == command_line.EXIT_USER_ERROR
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_published_files_are_analysed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared() / "reference"
    files = [folder / f"pseudo/stage{stage}.csv" for stage in (1, 2, 3, 4)]
    recipe = project / "configs/pseudo/ug2_2022/stage1.yaml"
    assert (
        run(
            project,
            EMU,
            "--pseudo",
            *files,
            "--labels",
            folder / "lists/arid.csv",
            "--recipe",
            recipe,
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    summary = [line.split(".csv: ")[1] for line in lines if ".csv: " in line]
    assert [line.split(" rows")[0] for line in summary] == ["4484", "7051", "8712", "9295"]
    figures = [
        (line.split("precision ")[1].split()[0], line.split("coverage ")[1].split()[0])
        for line in summary
    ]
    assert figures == [("93.78", "49.5"), ("94.78", "75.6"), ("90.77", "93.9"), ("89.56", "100.0")]
    assert all("oracle" in line for line in summary)
    assert sum(line.startswith("Drink ") for line in lines) == 4
