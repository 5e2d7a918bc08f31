"""The report of a made run: figures against what is counted from the files; missing and damaged files."""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightcrawler.pseudo.predictions import Predictions, read_results
from nightcrawler.report.figures import merging_models
from nightcrawler.report.page import read_figures, write_report
from nightcrawler.report.run_folder import RunFolder
from nightcrawler.utils.errors import UserError
from tests import tiny
from tests.paths import ROOT
from tests.report.made_run import (
    CLASSES,
    EVIL,
    MODELS,
    NUM_ARID,
    NUM_DARK,
    NUM_TEST,
    NUM_VAL,
    SEED,
    Made,
    make,
)
from tests.report.page_reader import Reader


def of(figures: dict[str, Any], split: str) -> dict[str, Any]:
    return next(one for one in figures["splits"] if one["split"] == split)


def results(run: Path, name: str, split: str) -> Predictions:
    return read_results(run / name / f"{split}x4x32x1x1.pkl")


def true_labels(data: Path, *names: str) -> dict[str, int]:
    """Rows of lists, read by the csv module alone."""
    found: dict[str, int] = {}
    for name in names:
        with open(data / name, newline="") as file:
            found |= {path: int(label) for path, label in csv.reader(file)}
    return found


@pytest.mark.parametrize(
    ("split", "lists", "total"),
    [
        ("val_dry", ("val_dry.csv",), NUM_VAL),
        ("test", ("truth/test.csv",), NUM_TEST),
        ("total_unlabel", ("truth/dark_unlabel.csv", "arid.csv"), NUM_DARK + NUM_ARID),
    ],
)
def test_accuracy_is_that_of_the_files(
    run: Path, data: Path, figures: dict[str, Any], split: str, lists: tuple[str, ...], total: int
) -> None:
    truth, table = true_labels(data, *lists), of(figures, split)
    assert [stage["stage"] for stage in table["stages"]] == ["round0", "round1", "round2"]
    for stage in table["stages"]:
        probs = []
        for model in MODELS:
            found = results(run, f"{stage['stage']}/{model}", split)
            labels = np.array([truth[name] for name in found.names])
            probs.append(found.probs.astype(np.float64))
            right = int((found.probs.argmax(axis=1) == labels).sum())
            assert (stage["models"][model]["correct"], stage["models"][model]["total"]) == (
                right,
                total,
            )
        both = [100 * one["correct"] / total for one in stage["models"].values()]
        assert stage["mean"] == pytest.approx(sum(both) / 2)
        assert stage["models"][stage["best"]]["percent"] == pytest.approx(max(both))
        right = int(((probs[0] + probs[1]).argmax(axis=1) == labels).sum())
        assert stage["ensemble"]["correct"] == right
        same = (probs[0].argmax(axis=1) == probs[1].argmax(axis=1)).mean()
        assert stage["mean_agreement"] == pytest.approx(100 * same)
        assert list(stage["control"]) == (["one"] if stage["round"] else [])
    control = results(run, "control/round2/one", split)
    right = int((control.probs.argmax(axis=1) == labels).sum())
    last = table["stages"][-1]
    assert last["control"]["one"]["correct"] == right
    assert last["control_mean"] == pytest.approx(100 * right / total)
    assert last["same_mean"] == last["models"]["one"]["percent"]


def test_controls_of_several_models_have_an_ensemble(data: Path, tmp_path: Path) -> None:
    run = make(Made(tmp_path / "run", data, CLASSES, MODELS, control=MODELS))
    found = of(write_report(run, ROOT, {}, run / "report.html"), "test")["stages"]
    truth = true_labels(data, "truth/test.csv")
    both = [results(run, f"control/round2/{model}", "test") for model in MODELS]
    labels = np.array([truth[name] for name in both[0].names])
    right = int(((both[0].probs + both[1].probs).argmax(axis=1) == labels).sum())
    assert [stage["control_ensemble"] is not None for stage in found] == [False, True, True]
    assert (found[2]["control_ensemble"]["correct"], found[2]["control_ensemble"]["total"]) == (
        right,
        NUM_TEST,
    )
    assert "ensemble of<br>controls" in (run / "report.html").read_text()


def test_the_vote_is_counted_beside_them(run: Path, data: Path, figures: dict[str, Any]) -> None:
    truth = true_labels(data, "truth/test.csv")
    with open(run / "submission/arid_pred.csv", newline="") as file:
        right = sum(int(row["ClassID"]) == truth[row["Video"]] for row in csv.DictReader(file))
    votes = of(figures, "test")["votes"]
    assert [vote["name"] for vote in votes] == ["arid_pred_0", "arid_pred"]
    assert (votes[-1]["correct"], votes[-1]["total"], votes[-1]["use"]) == (
        right,
        NUM_TEST,
        "label-free",
    )
    assert of(figures, "val_dry")["votes"] == []


def test_a_clip_that_nobody_could_read_is_no_answer_of_the_vote(data: Path, tmp_path: Path) -> None:
    """The submission has to give it a class: the first, which may be its own."""
    made = make(Made(tmp_path / "run", data, CLASSES, MODELS))
    truth, about = true_labels(data, "truth/test.csv"), made / "submission/arid_pred.json"
    with open(made / "submission/arid_pred.csv", newline="") as file:
        hits = [
            row["Video"]
            for row in csv.DictReader(file)
            if int(row["ClassID"]) == truth[row["Video"]]
        ]
    about.write_text(json.dumps({**json.loads(about.read_text()), "without_prediction": hits[:2]}))
    vote = of(read_figures(made, ROOT, {}), "test")["votes"][-1]
    assert (vote["correct"], vote["total"]) == (len(hits) - 2, NUM_TEST)


@pytest.mark.parametrize("split", ["night", "val_dry"])
def test_a_vote_on_clips_whose_labels_results_hold(data: Path, tmp_path: Path, split: str) -> None:
    """A list of one's own with labels; and where the data has gone since."""
    own = shutil.copytree(data, tmp_path / "data")
    tiny.write_rows(
        own / "night.csv", [(f"Test/{number}.mp4", number % len(CLASSES)) for number in range(9)]
    )
    made = make(Made(tmp_path / "run", own, CLASSES, MODELS, splits=("total_unlabel", split)))
    if split == "val_dry":
        shutil.rmtree(own)
    found = of(write_report(made, ROOT, {}, made / "report.html"), split)
    assert found["votes"][-1]["total"] == found["stages"][-1]["models"]["one"]["total"] > 0


def test_pseudo_labels_by_class_and_round(run: Path, data: Path, figures: dict[str, Any]) -> None:
    truth = true_labels(data, "truth/dark_unlabel.csv", "arid.csv")
    assert [one["stage"] for one in figures["pseudo"]] == ["round1", "round2"]
    files = []
    for one in figures["pseudo"]:
        with open(run / f"pseudo/{one['stage']}.csv", newline="") as file:
            files.append({row[0]: int(row[1]) for row in csv.reader(file)})
        labels = files[-1]
        assert one["rows"] == len(labels)
        assert one["coverage"] == pytest.approx(100 * len(labels) / (NUM_DARK + NUM_ARID))
        assert one["precision"]["correct"] == sum(
            truth[name] == label for name, label in labels.items()
        )
        for place, cell in enumerate(one["classes"]):
            mine = [name for name, label in labels.items() if label == place]
            assert (cell["name"], cell["rows"]) == (CLASSES[place], len(mine))
            assert cell["precision"]["correct"] == sum(truth[name] == place for name in mine)
            theirs = [name for name, label in truth.items() if label == place]
            assert cell["coverage"]["correct"] == sum(name in labels for name in theirs)
            assert cell["coverage"]["total"] == len(theirs)
    (move,) = figures["drift"]
    both = files[0].keys() & files[1].keys()
    assert move["changed"] == sum(files[0][name] != files[1][name] for name in both)
    assert (move["both"], move["new"]) == (len(both), len(files[1]) - len(both))
    new = files[1].keys() - both
    assert move["right"]["new"]["total"] == len(new)
    assert move["right"]["new"]["correct"] == sum(files[1][name] == truth[name] for name in new)
    wrong = [name for name in both if files[0][name] != truth[name]]
    assert move["still_wrong"]["total"] == len(wrong)
    assert move["still_wrong"]["correct"] == sum(files[0][n] == files[1][n] for n in wrong)


def test_a_chain_that_stopped_says_so(data: Path, tmp_path: Path) -> None:
    run = make(Made(tmp_path / "run", data, CLASSES, MODELS))
    path = run / "pipeline.json"
    state = json.loads(path.read_text())
    told = "the chain stops before round2: 4.0 % of its labels moved, STOP_BELOW is 10 %"
    path.write_text(json.dumps({**state, "stopped": told}))
    figures = write_report(run, ROOT, {}, tmp_path / "report.html")
    assert figures["stopped"] == told
    assert f"any more: {told}." in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("name", ["notes.html", "notes.json"])
def test_files_of_ones_own_are_not_replaced(data: Path, tmp_path: Path, name: str) -> None:
    run = make(Made(tmp_path / "run", data, CLASSES, MODELS))
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(UserError, match=f"{name}: exists and was not written by a report"):
        write_report(run, ROOT, {}, tmp_path / "notes.html")
    assert (tmp_path / name).read_text() == '{"mine": 1}'
    (tmp_path / name).unlink()
    for _ in range(2):
        write_report(run, ROOT, {}, tmp_path / "notes.html")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("split", "val_dry", "split val_dry, expected test"),
        ("views", 3, "views 3, expected 1"),
        ("crops", 3, "crops 3, expected 1"),
        ("checkpoint_sha256", "0" * 64, "checkpoint_sha256 0000000000000000, expected e3b0c442"),
    ],
)
def test_results_of_another_test_are_left_out_with_a_note(
    data: Path, tmp_path: Path, key: str, value: Any, told: str
) -> None:
    run = make(Made(tmp_path / "run", data, CLASSES, MODELS))
    path = run / "round1/one/testx4x32x1x1.pkl"
    results = read_results(path)
    # The hash of its checkpoint, an empty file.
    own = {"views": 1, "crops": 1, "checkpoint_sha256": hashlib.sha256().hexdigest()}
    results.meta |= own
    results.save(path)
    assert not [note for note in notes_of(run) if "left out" in note]
    results.meta |= {key: value}
    results.save(path)
    (note,) = [note for note in notes_of(run) if "left out" in note]
    assert note.startswith(f"one/testx4x32x1x1.pkl: {told}")
    assert all(one.path != path for one in RunFolder(run, ROOT).results)


def notes_of(run: Path) -> list[str]:
    found: list[str] = write_report(run, ROOT, {}, run / "report.html")["notes"]
    return found


def test_an_alarm_where_models_merge(figures: dict[str, Any]) -> None:
    splits = copy.deepcopy(figures["splits"])
    chain = of({"splits": splits}, "total_unlabel")["stages"]
    for stage, agreement in zip(chain, (54.0, 67.0, 68.0), strict=True):
        stage["mean_agreement"] = agreement
    assert merging_models(splits, "total_unlabel") == []
    # Disagreement falls from 46 to 29 %: below two thirds of it.
    chain[-1]["mean_agreement"] = 71.0
    (alarm,) = merging_models(splits, "total_unlabel")
    assert (
        "two of round2 agree on 71 % of the clips of total_unlabel, two of round0 on 54 %" in alarm
    )
    assert merging_models(splits, "arid") == []
    assert merging_models([], "total_unlabel") == []


def test_the_close_look_is_at_the_voted_split(figures: dict[str, Any]) -> None:
    focus = figures["focus"]
    assert (focus["split"], focus["stage"]) == ("test", "round2")
    assert [one["name"] for one in focus["matrices"]] == ["ensemble", "vote", *MODELS]
    last = of(figures, "test")["stages"][-1]
    counts = np.array(focus["matrices"][0]["counts"])
    assert counts.sum() == NUM_TEST
    assert np.trace(counts) == last["ensemble"]["correct"]
    assert len(focus["mistakes"]) == NUM_TEST - last["ensemble"]["correct"]
    assert (
        sum(one["accuracy"]["correct"] for one in focus["brightness"])
        == last["ensemble"]["correct"]
    )
    edges = [edge for one in focus["brightness"] for edge in (one["low"], one["high"])]
    assert edges == sorted(edges)
    assert list(focus["calibration"]) == ["round0", "round1", "round2"]
    separation = focus["calibration"]["round2"]["separation"]
    assert 0 <= separation["right"] <= 100
    assert 0 <= separation["known"] <= 100


def test_stamps(figures: dict[str, Any]) -> None:
    assert of(figures, "test")["stamp"] == {
        "use": "label-free",
        "split": "test",
        "seeds": [SEED],
        "clips": NUM_TEST,
        "dark_labels": True,
        "picked": False,
    }
    bright = of(figures, "val_dry")["stamp"]
    assert (bright["dark_labels"], bright["picked"]) == (False, True)


def test_one_oracle_among_the_files_makes_the_figures_an_oracles(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    path = copy / "round1/one/testx4x32x1x1.pkl"
    found = read_results(path)
    found.meta["labels"] = "oracle"
    found.save(path)
    figures = write_report(copy, ROOT, {}, tmp_path / "report.html")
    assert of(figures, "test")["stamp"]["use"] == figures["use"] == "oracle"
    assert of(figures, "val_dry")["stamp"]["use"] == "label-free"
    assert (
        "labels of dark clips chose checkpoints or thresholds"
        in Reader(tmp_path / "report.html").text
    )


def test_no_folder_of_this_machine_is_kept(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    state = json.loads((copy / "pipeline.json").read_text())
    state["recipe"] = str(tmp_path / "mine/recipe.yaml")
    (copy / "pipeline.json").write_text(json.dumps(state))
    assert write_report(copy, ROOT, {}, copy / "report.html")["recipe"] == "recipe.yaml"
    for name in ("report.json", "report.html"):
        assert str(tmp_path) not in (copy / name).read_text(), name


def test_figures_are_kept_beside_the_page(run: Path, figures: dict[str, Any]) -> None:
    assert json.loads((run / "report.json").read_text()) == json.loads(json.dumps(figures))
    assert read_figures(run / "report.json", ROOT, {})["splits"] == json.loads(
        json.dumps(figures["splits"])
    )


# --- missing and damaged files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("open_tasks", "said"),
    [
        (("train", "test", "label", "vote"), "Not available yet: tests"),
        (("test", "label", "vote"), "Not available yet: tests"),
        (("label", "vote", "test/round1", "test/round2"), "Not available yet: pseudo-labels"),
        (("label/round2", "test/round2", "vote"), "Not available yet: a second round"),
        (("test/round1/_two", "vote"), "tasks are done"),
        (("test/round0", "test/round1", "test/round2/one"), "tasks are done"),
    ],
)
def test_a_run_that_is_half_done(
    data: Path, tmp_path: Path, open_tasks: tuple[str, ...], said: str
) -> None:
    folder = make(Made(tmp_path / "run", data, CLASSES, MODELS, open_tasks=open_tasks))
    figures = write_report(folder, ROOT, {}, tmp_path / "report.html")
    found = Reader(tmp_path / "report.html")
    assert said in found.text
    assert "nan" not in re.findall(r"[a-z]+", found.text.lower().replace(EVIL, ""))
    for split in figures["splits"]:
        for stage in split["stages"]:
            assert (stage["mean"] is None) == (len(stage["models"]) < len(MODELS))


def test_without_true_classes_nothing_is_counted(data: Path, tmp_path: Path) -> None:
    bare = tmp_path / "data"
    shutil.copytree(data, bare, ignore=shutil.ignore_patterns("truth"))
    folder = make(Made(tmp_path / "run", bare, CLASSES, MODELS, splits=("total_unlabel", "test")))
    figures = write_report(folder, ROOT, {}, tmp_path / "report.html")
    assert of(figures, "test")["stages"][0]["ensemble"]["percent"] is None
    assert "--truth test=CSV" in Reader(tmp_path / "report.html").text
    # ARID's own labels are in a list.
    assert figures["focus"]["split"] == "total_unlabel"
    assert of(figures, "total_unlabel")["stamp"]["clips"] == NUM_ARID
    told = read_figures(folder, ROOT, {"test": data / "truth/test.csv"})
    assert of(told, "test")["stamp"]["clips"] == NUM_TEST


def test_files_and_clips_that_have_gone_are_named(run: Path, data: Path, tmp_path: Path) -> None:
    copy, place = tmp_path / "moved", tmp_path / "data"
    shutil.copytree(run, copy)
    shutil.copytree(data, place, ignore=shutil.ignore_patterns("*.mp4"))
    state = json.loads((copy / "pipeline.json").read_text())
    (copy / "pipeline.json").write_text(json.dumps({**state, "data": str(place)}))
    (copy / "round2/one/testx4x32x1x1.pkl").unlink()
    figures = write_report(copy, ROOT, {}, tmp_path / "report.html")
    text = Reader(tmp_path / "report.html").text
    assert "testx4x32x1x1.pkl is missing" in text
    assert "the clip is missing" in text
    assert of(figures, "test")["stages"][-1]["mean"] is None
    assert figures["focus"]["stage"] == "round1"


def test_bad_files_are_errors(run: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pipeline\.json: no such file"):
        read_figures(tmp_path, ROOT, {})
    (tmp_path / "pipeline.json").write_text("[]")
    with pytest.raises(UserError, match="not written by"):
        read_figures(tmp_path, ROOT, {})
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UserError, match="no figures of a run"):
        read_figures(tmp_path / "other.json", ROOT, {})
    tiny.write_rows(tmp_path / "wrong.csv", [("0.mp4", 5)])
    with pytest.raises(UserError, match="label 5, expected less than 5"):
        read_figures(run, ROOT, {"test": tmp_path / "wrong.csv"})
    tiny.write_rows(tmp_path / "other.csv", [("Row/Row_1_0.mp4", 3)])
    with pytest.raises(UserError, match="in another file of its folder"):
        read_figures(run, ROOT, {"total_unlabel": tmp_path / "other.csv"})


def test_another_number_of_classes_is_an_error(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    state = json.loads((copy / "pipeline.json").read_text())
    (copy / "pipeline.json").write_text(json.dumps({**state, "class_names": CLASSES[:4]}))
    with pytest.raises(UserError, match="5 classes, but 4"):
        read_figures(copy, ROOT, {})


def test_a_run_of_version_0_1_is_read(tmp_path: Path) -> None:
    """Its pipeline.json, as that version wrote it, calls the tasks links."""
    link = {
        "name": "train/round0/one",
        "kind": "train",
        "round": 0,
        "stage": "round0",
        "model": "one",
        "experiment": "round0/one",
        "control": False,
        "folder": "run/round0/one",
        "inputs": {},
        "outputs": ["run/round0/one/best.pyth"],
        "status": "done",
        "reason": "stands",
        "seconds": 61.5,
        "exit_code": 0,
        "command": ["made"],
    }
    vote = {**link, "name": "vote", "kind": "vote", "status": "waiting", "reason": ""}
    state = {
        "version": "0.1.0",
        "recipe": "configs/pipeline/made.yaml",
        "out": "run",
        "data": str(tmp_path / "data"),
        "class_names": ["climb", "row"],
        "models": ["one"],
        "stages": [{"name": "round0", "round": 0, "models": ["one"], "in_chain": True}],
        "unlabelled": "total_unlabel",
        "test_splits": ["val_dry"],
        "vote_split": "test",
        "control": [],
        "links": [link, vote],
    }
    (tmp_path / "pipeline.json").write_text(json.dumps(state))
    figures = write_report(tmp_path, ROOT, {}, tmp_path / "report.html")
    assert [task["name"] for task in figures["links"]] == ["train/round0/one", "vote"]
    assert figures["links"][0]["seconds"] == 61.5
    assert "1 of 2 tasks are done." in Reader(tmp_path / "report.html").text
    figures["version"] = "0.1.0"
    (tmp_path / "old.json").write_text(json.dumps(figures))
    assert read_figures(tmp_path / "old.json", ROOT, {})["links"] == figures["links"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("links", 3), ("links", ["x"]), ("links", [{"kind": []}]), ("stages", {}), ("stages", [1]),
        ("class_names", 4), ("class_names", [None]), ("models", 1.5), ("out", []), ("data", None),
        ("unlabelled", {}), ("test_splits", [[]]), ("vote_split", 0),
    ],
)  # fmt: skip
def test_wrong_types_in_pipeline_json_are_named(
    run: Path, tmp_path: Path, key: str, value: object
) -> None:
    state = json.loads((run / "pipeline.json").read_text())
    (tmp_path / "pipeline.json").write_text(json.dumps({**state, key: value}))
    with pytest.raises(UserError, match=rf"pipeline\.json: damaged: {key}") as caught:
        read_figures(tmp_path, ROOT, {})
    assert "\n" not in str(caught.value)


def test_json_without_end_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "pipeline.json").write_text("[" * 200_000)
    with pytest.raises(UserError, match=r"pipeline\.json: cannot be read"):
        read_figures(tmp_path, ROOT, {})


def test_the_fitted_camera_is_shown_with_both_accuracies(data: Path, tmp_path: Path) -> None:
    """Whatever else stands under the key: results files may come from elsewhere."""
    splits = ("val_dark", "total_unlabel", "test")
    run = make(Made(tmp_path, data, CLASSES, MODELS, splits=splits))
    assert write_report(run, ROOT, {}, run / "a.html")["camera"] is None
    statistics = {"mean": [1.0, 2.5, 3.0], "spatial_noise": [0.1, 0.25, 0.3], "cast": [0.2]}
    simulated = {"mean": [1.0, 2.75, 3.0], "spatial_noise": [0.1, 0.125, 0.3], "cast": "warm"}
    camera = {"from": "fit", "measured": statistics, "simulated": simulated}
    for path in run.glob("round*/*/val_dark*"):
        found = read_results(path)
        found.meta["camera"] = camera if MODELS[0] in str(path) else [7]
        found.save(path)
    figures = write_report(run, ROOT, {}, run / "b.html")
    assert figures["camera"]["statistics"] == [
        {"name": "mean", "measured": 2.5, "simulated": 2.75},
        {"name": "spatial noise", "measured": 0.25, "simulated": 0.125},
    ]
    stages = figures["camera"]["stages"]
    found_stages = [(row["stage"], *row["splits"]) for row in stages]
    assert ("round2", "val_dark", "test") in found_stages
    assert len(found_stages) == 6
    for row in stages:
        for kind, split in zip(("darkened", "dark"), row["splits"], strict=True):
            stage = next(
                one for one in of(figures, split)["stages"] if one["stage"] == row["stage"]
            )
            assert row[kind] == stage["ensemble"]["percent"]
    page = (run / "b.html").read_text()
    assert '<th scope="row">spatial noise</th><td>0.25</td><td>0.125</td>' in page
