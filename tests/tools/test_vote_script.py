"""The script of the final vote, end to end on made-up results."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.pseudo.predictions import Predictions
from nightcrawler.pseudo.submission import read_submission
from nightcrawler.pseudo.vote_recipe import read_vote_recipe
from nightcrawler.utils import command_line
from nightcrawler.utils.project import use_project
from tests.golden.ensemble_cases import logits_table
from tests.paths import GOLDEN
from tests.pseudo.made import made, permuted
from tests.tools.skeleton import MODELS, NAMES, VOTE, copy_project, results, rows_of, run, script


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project's skeleton."""
    return copy_project(tmp_path)


def final_results(
    project: Path, pairs: tuple[str, ...] = ("1x3", "3x3")
) -> dict[str, list[Predictions]]:
    folders = [
        *(f"exp_pseudo_stage4/{model}" for model in MODELS),
        "exp_experts/uniformer_b32_ssv2",
    ]
    return {
        pair: [
            results(project / folder / f"testx8x64x{pair}.pkl", 10 * place + seed)
            for seed, folder in enumerate(folders)
        ]
        for place, pair in enumerate(pairs)
    }


def test_modes_are_made_and_vote(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = final_results(project)
    assert run(project, VOTE) == 0
    out = project / "submission"
    names = {path.name for path in out.iterdir()}
    assert names == {
        f"arid_pred{part}.{end}"
        for part in ("", "_0", "_1", "_2", "_3", "_4")
        for end in ("csv", "json")
    } | {"predictions.csv"}
    labels = []
    for mode in range(5):
        weights = [0.25] * 4 + [0.0] if mode == 4 else [0.2] * 5
        files = models["1x3" if mode in (0, 2) else "3x3"]
        own = [one.probs.astype(np.float64) for one in files]
        if mode in (2, 3):
            powers = [np.exp(one.logits.astype(np.float64)) for one in files]
            own = [power / power.sum(axis=1, keepdims=True) for power in powers]
        mixed = sum(weight * probs for weight, probs in zip(weights, own, strict=True))
        found = read_submission(out / f"arid_pred_{mode}.csv")
        assert found.names == NAMES
        assert found.labels.tolist() == mixed.argmax(axis=1).tolist()
        np.testing.assert_allclose(
            found.confidences, mixed.max(axis=1) / mixed.sum(axis=1), rtol=1e-8
        )
        labels.append(found.labels)
    final = read_submission(out / "arid_pred.csv")
    votes = np.stack([np.bincount(column, minlength=5) for column in np.stack(labels).T])
    assert (votes[np.arange(60), final.labels] == votes.max(axis=1)).all()
    assert rows_of(out / "arid_pred.csv")[0] == ["VideoID", "Video", "ClassID", "Probability"]
    assert [row[0] for row in rows_of(out / "arid_pred.csv")[1:]] == [str(row) for row in range(60)]
    assert json.loads((out / "arid_pred.json").read_text())["labels"] == "label-free"
    *_, voted, named = capsys.readouterr().out.splitlines()
    assert voted.endswith("60 videos, vote of 5, label-free")
    assert named == f"{out / 'predictions.csv'}: the same with names of classes"


def test_answers_have_names_and_agreement(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = final_results(project)
    assert run(project, VOTE, "--modes", 0, "--vote", 0) == 0
    out = project / "submission"
    header, *rows = rows_of(out / "predictions.csv")
    assert header == ["video", "class", "probability", "agreement", "status"]
    final = read_submission(out / "arid_pred.csv")
    own = np.stack([one.probs.argmax(axis=1) for one in models["1x3"]])
    mixed = np.mean([one.probs.astype(np.float64) for one in models["1x3"]], axis=0)
    class_names = models["1x3"][0].meta["class_names"]
    for row, (video, name, probability, agreement, status) in enumerate(rows):
        label = final.labels[row]
        count = int((own[:, row] == label).sum())
        first, second = np.sort(mixed[row])[::-1][:2]
        expected = "sure" if first - second >= 0.5 else "unsure"
        assert (video, name) == (NAMES[row], class_names[label])
        assert probability == f"{final.confidences[row]:.4f}"
        assert agreement == f"{count} of 5"
        assert status == ("models disagree" if count < 2.5 else expected)
    # Over the file alone, voters count instead of their models.
    assert run(project, VOTE, "--modes", "--vote", 0) == 0
    again = rows_of(out / "predictions.csv")[1:]
    assert [row[:3] for row in again] == [row[:3] for row in rows]
    assert {row[3] for row in again} == {"1 of 1"}


def test_a_file_of_the_user_is_not_replaced(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    final_results(project)
    path = project / "submission/predictions.csv"
    path.parent.mkdir()
    path.write_text("my own,table\n")
    assert run(project, VOTE) == command_line.EXIT_USER_ERROR
    assert f"{path}: exists and was not written by a vote" in capsys.readouterr().err
    assert path.read_text() == "my own,table\n"
    assert [one.name for one in path.parent.iterdir()] == ["predictions.csv"]


def test_runs_are_equal_byte_for_byte_and_forms_elect_the_same(project: Path) -> None:
    final_results(project)
    whole = {}
    for form, argv in {
        "a": [],
        "b": [],
        "c": ["--all-probs"],
        "d": ["--probability-format", "challenge"],
    }.items():
        assert run(project, VOTE, "--out", project / form, *argv) == 0
        whole[form] = read_submission(project / form / "arid_pred.csv")
        assert whole[form].labels.tolist() == whole["a"].labels.tolist()
    for name in ("arid_pred.csv", "arid_pred.json", "arid_pred_3.csv", "arid_pred_3.json"):
        assert (project / "a" / name).read_bytes() == (project / "b" / name).read_bytes()
    assert whole["a"].probs is None
    for form in ("c", "d"):
        assert whole[form].probs is not None
        np.testing.assert_allclose(whole[form].probs.sum(axis=1), 1, atol=1e-6)


def test_modes_and_voters_can_be_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    final_results(project)
    assert run(project, VOTE, "--modes", 0, 3, "--vote", 0, 3) == 0
    assert (
        json.loads((project / "submission/arid_pred.json").read_text())["inputs"][1]["file"]
        == "arid_pred_3.csv"
    )
    assert run(project, VOTE, "--modes", 0, "--vote", 0, 1) == command_line.EXIT_USER_ERROR
    assert "arid_pred_1.csv: no such submission; generate its mode first" in capsys.readouterr().err
    assert run(project, VOTE, "--modes", 7) == command_line.EXIT_USER_ERROR
    assert "mode 7: the recipe has modes 0, 1, 2, 3, 4" in capsys.readouterr().err
    assert run(project, VOTE, "--modes", "--vote", 3) == 0
    assert read_submission(project / "submission/arid_pred.csv").labels.tolist() == (
        read_submission(project / "submission/arid_pred_3.csv").labels.tolist()
    )


def test_a_mode_votes_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, VOTE, "--vote", 0, 1, 1) == command_line.EXIT_USER_ERROR
    assert "--vote 0 1 1: expected each mode once" in capsys.readouterr().err


@pytest.mark.parametrize("written", ["arid_pred_1.csv", "arid_pred.csv", "predictions.csv"])
def test_the_list_that_names_rows_is_not_replaced(
    written: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project / "submission" / written
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{name},0\n" for name in NAMES))
    before = path.read_bytes()
    assert run(project, VOTE, "--list", path) == command_line.EXIT_USER_ERROR
    assert "is a file to read" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["arid_pred.json", "arid_pred_3.json"])
def test_a_json_file_of_the_users_is_not_replaced(
    project: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    final_results(project)
    mine = project / "submission" / name
    mine.parent.mkdir()
    mine.write_text('{"mine": 1}')
    assert run(project, VOTE) == command_line.EXIT_USER_ERROR
    assert f"{name}: would be replaced by the description" in capsys.readouterr().err
    assert list(mine.parent.iterdir()) == [mine]
    assert mine.read_text() == '{"mine": 1}'


def test_experiments_can_be_elsewhere_and_of_another_split(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    final_results(project)
    elsewhere = tmp_path_factory.mktemp("else")
    for folder in ("exp_pseudo_stage4", "exp_experts"):
        (project / folder).rename(elsewhere / folder)
    for path in elsewhere.rglob("*.pkl"):
        path.rename(path.with_name(path.name.replace("testx", "nightx")))
    assert run(project, VOTE, "--prefix", elsewhere, "--split", "night") == 0


def test_a_submission_that_was_changed_by_hand_is_not_label_free(project: Path) -> None:
    final_results(project)
    assert run(project, VOTE) == 0
    path = project / "submission/arid_pred_2.csv"
    rows = path.read_text().splitlines()
    rows[1] = "0,0.mp4,4,0.99"
    path.write_text("\n".join(rows) + "\n")
    assert run(project, VOTE, "--modes", "--vote", 1, 2) == 0
    assert json.loads((project / "submission/arid_pred.json").read_text())["labels"] == "oracle"


def test_other_videos_in_one_file_are_an_error(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    final_results(project)
    path = project / "exp_experts/uniformer_b32_ssv2/testx8x64x1x3.pkl"
    permuted(made(60, 5, names=NAMES), range(59)).save(path)
    assert run(project, VOTE) == command_line.EXIT_USER_ERROR
    error = capsys.readouterr().err
    assert f"{path}: 1 videos of " in error
    assert "row 60 'Run/Run_1_29.mp4' of that file" in error


def test_functions_of_the_script(project: Path) -> None:
    final_results(project)
    module = script(VOTE)
    published = project / "configs/vote/ug2_2022.yaml"
    assert [len(module.select_thres(mode, published)) for mode in range(5)] == [0, 6, 5, 5, 5]
    with use_project(project):
        assert module.select_thres(0) == []
        first = module.generate_final_sub(0, out=project / "s", form="all_probs")
    assert first == project / "s/arid_pred_0.csv"
    assert module.vote_for_sub([first], out=project / "s") == project / "s/arid_pred.csv"
    assert (
        read_submission(project / "s/arid_pred.csv").labels.tolist()
        == read_submission(first).labels.tolist()
    )
    about = json.loads(first.with_suffix(".json").read_text())
    lacking = read_submission(first).names[3]
    first.with_suffix(".json").write_text(
        json.dumps({**about, "without_prediction": [lacking, "another.mp4"]})
    )
    module.vote_for_sub([first], out=project / "s")
    assert json.loads((project / "s/arid_pred.json").read_text())["without_prediction"] == [lacking]
    with pytest.raises(module.UserError, match="at least one"):
        module.vote_for_sub([])


def test_a_class_that_a_voter_does_not_have_is_told_before_anything_is_written(
    project: Path,
) -> None:
    """As of class numbers that begin at 1."""
    final_results(project)
    module = script(VOTE)
    with use_project(project):
        first = module.generate_final_sub(0, out=project / "s")
    num_classes = len(json.loads(first.with_suffix(".json").read_text())["classes"])
    second = project / "second.csv"
    rows = [
        f"{row},{name},{num_classes},0.99" for row, name in enumerate(read_submission(first).names)
    ]
    second.write_text("\n".join(["VideoID,Video,ClassID,Probability", *rows]) + "\n")
    with pytest.raises(module.UserError, match=f"has {num_classes} classes, and another file"):
        module.vote_for_sub([first, second, second], out=project / "t")
    assert not (project / "t").exists()


def test_the_published_files_and_recipe_give_the_published_vote(project: Path) -> None:
    """Results in the old form, sums without names, through the script as a user of the published chain has them."""
    case = json.loads((GOLDEN / "ensemble_final_vote.json").read_text())
    published = project / "configs/vote/ug2_2022.yaml"
    rows = case["table"]["rows"]
    for number, (name, folder) in enumerate(
        read_vote_recipe(published).mode(0).ensemble.folders.items()
    ):
        assert case["table"]["model_index"][name] == number
        for pair in ("1x1" if name == "dense" else "1x3", "3x3"):
            table = logits_table(rows, 11, number, *((2, 1.5) if pair == "3x3" else (0, 1.0)))
            path = project / folder / f"testx32x224x{pair}.pkl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(
                pickle.dumps({"video_preds": table, "video_labels": np.full(rows, -1)})
            )
    names = project / "test.csv"
    names.write_text("".join(f"{row}.mp4,-1\n" for row in range(rows)))
    assert (
        run(
            project,
            VOTE,
            "--recipe",
            published,
            "--list",
            names,
            "--probability-format",
            "challenge",
        )
        == 0
    )
    out = project / "submission"
    assert read_submission(out / "arid_pred.csv").labels.tolist() == case["vote_modes_1_and_4"]
    for mode, expected in case["modes"].items():
        found = read_submission(out / f"arid_pred_{mode}.csv")
        assert found.labels.tolist() == expected["final_pred"]
        assert found.probs is not None
        np.testing.assert_allclose(
            found.probs[:5], expected["output_prob_float32_first5rows"], atol=1e-7
        )
    assert json.loads((out / "arid_pred.json").read_text())["labels"] == "oracle"
