"""A name or an address wherever a checkpoint is named: training, testing, loading, converting, planning."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import nightcrawler
from nightcrawler.cli import main as program
from nightcrawler.engine.run_metadata import data_stamps_of, label_use_of
from nightcrawler.models import zoo
from nightcrawler.models.zoo_table import ZooEntry
from nightcrawler.utils.io import sha256_file
from nightcrawler.workflow.jobs import PlanOptions
from nightcrawler.workflow.plan import make_plan
from nightcrawler.workflow.recipe import read_recipe
from tests import tiny
from tests.download.names import allow_downloads
from tests.download.server import Site, serving
from tests.paths import ROOT

NAME = "tiny_weights"


@pytest.fixture
def site(models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server with the checkpoint of a trained model, under a name of its own."""
    allow_downloads(tmp_path / "cache", monkeypatch)
    with serving() as found:
        found.files["/best.pyth"] = (models[0] / "best.pyth").read_bytes()
        entry = ZooEntry("tiny.pyth", "nowhere", address=f"{found.address}/best.pyth")
        monkeypatch.setitem(zoo.ZOO, NAME, entry)
        yield found


def test_a_model_is_loaded_by_its_address(
    site: Site, models: list[Path], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = data / "Test/0.mp4"
    [expected] = nightcrawler.load(models[0], device="cpu").predict(clip)
    for name in (f"{site.address}/best.pyth", NAME):
        [found] = nightcrawler.load(name, device="cpu").predict(clip)
        assert np.array_equal(found.logits, expected.logits)
    # One download of the address, one of the name; later commands need no network.
    assert len(site.requests) == 2
    monkeypatch.setenv("NIGHTCRAWLER_OFFLINE", "1")
    nightcrawler.load(NAME, device="cpu")


@pytest.mark.parametrize("command", ["predict", "export"])
def test_missing_weights_name_no_key_to_who_gives_an_option(
    site: Site,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.setenv("NIGHTCRAWLER_OFFLINE", "1")
    options = {
        "predict": [str(data / "Test/0.mp4"), "--model", NAME],
        "export": [NAME, "--out", str(tmp_path / "out")],
    }
    assert program.main([command, *options[command]]) == 2
    error = capsys.readouterr().err
    assert f"weights '{NAME}' are missing: " in error
    assert error.endswith(", or name another file\n")
    assert "random weights" not in error


def test_training_starts_from_a_name(
    site: Site, models: list[Path], data: Path, tmp_path: Path
) -> None:
    sha256 = sha256_file(models[0] / "best.pyth")
    key = "TRAIN.CHECKPOINT_FILE_PATH"
    epoch = ("SOLVER.MAX_EPOCH", 1, "SOLVER.WARMUP_EPOCHS", 0.5)
    for number, start in enumerate((NAME, f"{site.address}/best.pyth")):
        out = tmp_path / str(number)
        assert tiny.run_net("train", data, out, key, start, *epoch) == 0
        assert json.loads((out / "run.json").read_text())["start_sha256"] == sha256


def test_a_name_is_tested(site: Site, data: Path, tmp_path: Path) -> None:
    key = "TEST.CHECKPOINT_FILE_PATH"
    assert tiny.run_net("test", data, tmp_path / "out", key, NAME, "TEST.DATA_SELECT", "arid") == 0


def test_a_name_is_converted(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["convert", NAME, "--inspect"]) == 0
    assert "tiny.pyth" in capsys.readouterr().out


def test_a_start_that_labels_of_dark_clips_chose_makes_an_oracle(
    site: Site, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = tiny.config(data, tmp_path / "out", "TRAIN.CHECKPOINT_FILE_PATH", NAME)
    assert label_use_of(cfg) == "label-free"
    oracle = dataclasses.replace(zoo.ZOO[NAME], labels="oracle")
    monkeypatch.setitem(zoo.ZOO, NAME, oracle)
    assert label_use_of(cfg) == "oracle"


def test_weights_that_cannot_be_had_have_no_hash(
    site: Site, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTCRAWLER_OFFLINE", "1")
    cfg = tiny.config(data, tmp_path / "out", "TRAIN.CHECKPOINT_FILE_PATH", NAME)
    assert data_stamps_of(cfg)["start_sha256"] == ""


@pytest.mark.slow
def test_a_pipeline_downloads_its_starts_before_it_plans(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = {
        name: dataclasses.replace(entry, address=f"{site.address}/best.pyth")
        for name, entry in zoo.ZOO.items()
    }
    for name, entry in served.items():
        monkeypatch.setitem(zoo.ZOO, name, entry)
    recipe = read_recipe(ROOT / "configs/pipeline/ug2_2022.yaml", ROOT)

    def starts(download: bool) -> set[Path]:
        options = PlanOptions(ROOT, tmp_path, tmp_path, download=download)
        tasks, _ = make_plan(recipe, options)
        return {task.inputs["start"] for task in tasks if "start" in task.inputs}

    before = starts(False)
    assert site.requests == []
    after = starts(True)
    weights = {path for path in after if not path.is_relative_to(tmp_path) or "cache" in path.parts}
    assert weights
    assert all(path.is_file() for path in weights)
    # A dry run of later on plans with the files that are there.
    assert starts(False) == after != before
