"""Finding results files, joining them from disk, and the label use of outputs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.pseudo.ensemble_recipe import EnsembleSpec
from nightcrawler.pseudo.results_metadata import (
    holds_published_form,
    label_use,
    load_joined,
    names_without_prediction,
    read_metadata,
    refuse_other_description,
    results_file,
    results_name,
    write_metadata,
)
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import sha256_file
from tests.pseudo.made import made

TWO = EnsembleSpec({"a": "", "b": ""}, ("probs",) * 2, ((1, 3),) * 2)


def test_the_results_of_a_split_and_a_pair_are_found_at_any_clip_size(tmp_path: Path) -> None:
    for name in (
        "testx32x224x1x3",
        "testx32x224x3x3",
        "test2x32x224x1x1",
        "aridx8x64x1x1",
        "testx32x224x1x3x",
        "test",
    ):
        (tmp_path / f"{name}.pkl").touch()
    assert results_file(tmp_path, "test", (1, 3)).name == "testx32x224x1x3.pkl"
    assert results_file(tmp_path, "arid", (1, 1)).name == "aridx8x64x1x1.pkl"


@pytest.mark.parametrize(
    ("gammas", "name"),
    [
        ((), "darkx16x112x3x1.npz"),
        ([0.25], "darkx16x112x3x1xg0.25.npz"),
        ([0.25, 1.0, 2], "darkx16x112x3x1xg0.25-1-2.npz"),
    ],
)
def test_a_name_is_of_its_form_and_is_found_again(
    tmp_path: Path, gammas: list[float], name: str
) -> None:
    assert results_name("dark", 16, 112, (3, 1), gammas) == name
    (tmp_path / name).touch()
    assert results_file(tmp_path, "dark", (3, 1)).name == name


def test_both_forms_are_found_but_not_beside_each_other(tmp_path: Path) -> None:
    name = results_name("dark", 16, 112, (3, 1), form="pkl")
    assert name == "darkx16x112x3x1.pkl"
    assert not holds_published_form(tmp_path)
    (tmp_path / "other.pkl").touch()
    assert not holds_published_form(tmp_path)
    (tmp_path / name).touch()
    assert holds_published_form(tmp_path)
    assert results_file(tmp_path, "dark", (3, 1)).name == name
    (tmp_path / results_name("dark", 16, 112, (3, 1))).touch()
    assert not holds_published_form(tmp_path)
    with pytest.raises(UserError, match="several results"):
        results_file(tmp_path, "dark", (3, 1))


def test_no_results_or_several_are_errors_that_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such experiment: train it first"):
        results_file(tmp_path / "absent", "test", (1, 3))
    (tmp_path / "test.sh").touch()
    with pytest.raises(
        UserError, match=r"run .*test\.sh TEST\.DATA_SELECT test TEST\.NUM_ENSEMBLE_VIEWS 1"
    ):
        results_file(tmp_path, "test", (1, 3))
    for size in (64, 224):
        (tmp_path / f"testx32x{size}x1x3.pkl").touch()
    with pytest.raises(
        UserError, match=r"several results: testx32x224x1x3\.pkl, testx32x64x1x3\.pkl"
    ):
        results_file(tmp_path, "test", (1, 3))


def saved(folder: Path, **meta: object) -> list[Path]:
    paths = [folder / "a.pkl", folder / "b.pkl"]
    for seed, path in enumerate(paths):
        made(seed=seed, **meta).save(path)  # type: ignore[arg-type]
    return paths


def test_files_are_joined_and_say_what_they_are(tmp_path: Path) -> None:
    paths = saved(tmp_path, class_names=list("abcd"), config_hash="123")
    joined, inputs = load_joined(paths, TWO, list("abcd"))
    assert joined.class_names == list("abcd")
    assert inputs[1] == {
        "file": f"{tmp_path.name}/b.pkl",
        "sha256": sha256_file(paths[1]),
        "split": "total_unlabel",
        "labels": "label-free",
        "config_hash": "123",
    }


def test_classes_are_the_recipes_or_an_error(tmp_path: Path) -> None:
    paths = saved(tmp_path)
    assert load_joined(paths, TWO, list("wxyz"))[0].class_names == list("wxyz")
    with pytest.raises(UserError, match="the recipe has a, b"):
        load_joined(paths, TWO, ["a", "b"])
    with pytest.raises(UserError, match="classes a, b, c, d, but the recipe has a, b, d, c"):
        load_joined(saved(tmp_path, class_names=list("abcd")), TWO, list("abdc"))


def test_a_file_twice_is_an_error(tmp_path: Path) -> None:
    paths = saved(tmp_path)
    with pytest.raises(UserError, match="one file is named twice"):
        load_joined([paths[0], tmp_path / "." / "a.pkl"], TWO, [])


@pytest.mark.parametrize("key", ["split", "list_sha256", "videos_sha256"])
def test_results_of_other_data_are_not_joined_by_their_numbers(tmp_path: Path, key: str) -> None:
    paths = saved(tmp_path)
    for path, value in zip(paths, ("test", "val_dry"), strict=True):
        made(**{key: value}).save(path)
    with pytest.raises(UserError, match=rf"b\.pkl: {key} is val_dry, that of .*a\.pkl is test: "):
        load_joined(paths, TWO, [])
    # One that does not say is of an earlier version, and is taken.
    made(**{key: ""}).save(paths[1])
    assert len(load_joined(paths, TWO, [])[0].names) == 12


def test_models_of_skeletons_and_of_pictures_are_joined(tmp_path: Path) -> None:
    """Models of skeletons are tested on pose files of the same videos, which have other content."""
    paths = saved(tmp_path, videos_sha256="1")
    made(videos_sha256="2", pose_sources=["mediapipe 0.10.14"]).save(paths[1])
    assert len(load_joined(paths, TWO, [])[0].names) == 12


def test_only_what_says_so_everywhere_is_label_free() -> None:
    free, oracle = {"labels": "label-free"}, {"labels": "oracle"}
    assert label_use([free, free], "label-free") == "label-free"
    assert label_use([free, oracle]) == "oracle"
    assert label_use([free, {}]) == "oracle"
    assert label_use([free], "oracle") == "oracle"


def test_what_is_said_beside_a_file_holds_for_its_bytes_only(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("a\n")
    assert read_metadata(path)["labels"] == "oracle"
    write_metadata(path, {"labels": "label-free", "mode": 3})
    assert json.loads((tmp_path / "s.json").read_text())["sha256"] == sha256_file(path)
    assert read_metadata(path)["labels"] == "label-free"
    path.write_text("b\n")
    assert read_metadata(path) == {"file": "s.csv", "sha256": sha256_file(path), "labels": "oracle"}
    (tmp_path / "s.json").write_text("[")
    assert read_metadata(path)["labels"] == "oracle"


@pytest.mark.parametrize(
    "field",
    [
        {"file": 5},
        {"file": None},
        {"labels": "free"},
        {"labels": ["label-free"]},
        {"classes": 3},
        {"inputs": {"a": 1}},
        {"inputs": [1]},
        {"inputs": None},
        {"without_prediction": [5]},
        {"without_prediction": -1},
        {"without_prediction": True},
        {"videos": "5"},
        {"method": 5},
        {"thresholds": ["0.5"]},
    ],
)
def test_a_description_with_another_kind_of_value_is_an_error(
    tmp_path: Path, field: dict[str, Any]
) -> None:
    path = tmp_path / "s.csv"
    path.write_text("a\n")
    write_metadata(path, {"labels": "label-free", **field})
    with pytest.raises(UserError, match=rf"s\.json: {next(iter(field))}: .* expected "):
        read_metadata(path)


def test_a_number_of_videos_is_no_names(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    assert names_without_prediction(path, {}) == set()
    assert names_without_prediction(path, {"without_prediction": ["a", "b"]}) == {"a", "b"}
    with pytest.raises(UserError, match=r"s\.json: without_prediction: 5, expected names"):
        names_without_prediction(path, {"without_prediction": 5})


def test_the_chain_needs_numpy_and_yaml_only() -> None:
    code = """
import sys, numpy, yaml
before = {name.split(".")[0] for name in sys.modules}
import nightcrawler.cli.label, nightcrawler.pseudo.vote_recipe, nightcrawler.pseudo.thresholds
print(sorted({name.split(".")[0] for name in sys.modules} - before - set(sys.stdlib_module_names)))
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert process.stdout.strip() == "['nightcrawler']"


def test_a_json_file_of_ones_own_stays(tmp_path: Path) -> None:
    out = tmp_path / "mine.csv"
    out.with_suffix(".json").write_text('{"my": "notes"}')
    with pytest.raises(UserError, match=r"mine.json: would be replaced by the description"):
        refuse_other_description(out)
    out.write_text("0.mp4,1")
    write_metadata(out, {"labels": "oracle"})
    refuse_other_description(out)
