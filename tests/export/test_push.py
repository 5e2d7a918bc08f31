"""Push to a stand-in of the Hugging Face hub: what is sent, its card, each fault in one line, and the way back by name."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import constants

import nightcrawler
from nightcrawler.download.cache import OFFLINE
from nightcrawler.export import push as push_module
from nightcrawler.models.formats import read_weights
from nightcrawler.pseudo.predictions import read_results
from nightcrawler.utils import command_line
from tests import tiny
from tests.export.hub_server import TOKEN, Hub, Repository, serving

SENT = {"README.md", "classes.json", "config.yaml", "model.safetensors", "stamp.json"}
CLIP = "dark_train/Train/0.mp4"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch, tested on ARID and on the unlabelled test set; read only."""
    out = tmp_path_factory.mktemp("trained") / "run"
    short = ("SOLVER.MAX_EPOCH", 1, "SOLVER.WARMUP_EPOCHS", 0.5)
    assert tiny.run_net("train", data, out, *short) == 0
    for split in ("arid", "test"):
        assert tiny.run_net("test", data, out, *short, "TEST.DATA_SELECT", split) == 0
    return out


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("NIGHTCRAWLER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for name in OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(push_module, "WAIT_SEC", 0.01)
    # Its own protocol for large files needs a storage that the stand-in has not.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with serving() as found:
        template = found.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", found.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield found


def push(*arguments: Any) -> int:
    from nightcrawler.cli import push as command

    return command_line.run(command.main, [str(item) for item in arguments])


def head_of(card: str) -> dict[str, Any]:
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


def test_what_is_sent_says_what_the_model_is(run: Path, hub: Hub, tmp_path: Path) -> None:
    assert push(run, "me/night", "--out", tmp_path / "out") == 0
    found = hub.repositories["me/night"]
    assert not found.private
    assert set(found.files) == SENT | {".gitattributes"}
    assert len(found.commits) == 1
    cfg = tiny.config(Path("data"), run)
    assert json.loads(found.files["classes.json"]) == list(cfg.MODEL.CLASS_NAMES)
    stamp = json.loads(found.files["stamp.json"])
    weights = found.files["model.safetensors"]
    assert stamp["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert (
        stamp["checkpoint_sha256"] == hashlib.sha256((run / "best.pyth").read_bytes()).hexdigest()
    )
    recorded = json.loads((run / "run.json").read_text())
    for key in ("config_hash", "labels", "seed", "lists"):
        assert stamp[key] == recorded[key]
    # No path of this machine leaves it.
    for name, content in found.files.items():
        assert str(tmp_path.parent).encode() not in content, name


def test_the_card_has_metadata_and_honest_metrics(run: Path, hub: Hub, tmp_path: Path) -> None:
    assert push(run, "me/night", "--out", tmp_path / "out", "--license", "cc-by-nc-4.0") == 0
    card = hub.repositories["me/night"].files["README.md"].decode()
    head = head_of(card)
    assert head["license"] == "cc-by-nc-4.0"
    assert head["pipeline_tag"] == "video-classification"
    assert head["library_name"] == "nightcrawler-video"
    assert "uniformer" in head["tags"]
    # The test set has no labels: only ARID is in it.
    (result,) = head["model-index"][0]["results"]
    assert result["dataset"]["split"] == "arid"
    (metric,) = result["metrics"]
    (file,) = run.glob("aridx*")
    results = read_results(file)
    right = (results.probs.argmax(axis=1) == results.labels).mean()
    assert metric["type"] == "accuracy"
    assert metric["value"] == pytest.approx(100 * right, abs=0.01)
    assert metric["args"]["clips"] == tiny.NUM_ARID
    assert metric["args"]["seeds"] == [6666]
    assert metric["args"]["dark_labels"] == "label-free"
    assert metric["args"]["chance"] == pytest.approx(100 / tiny.NUM_CLASSES, abs=0.01)
    assert f"of {tiny.NUM_ARID} videos" in card
    assert "hf://me/night/model.safetensors" in card


@pytest.mark.parametrize("address", ["hf://me/night/model.safetensors", "hf://me/night"])
def test_what_was_sent_is_loaded_by_its_name(
    run: Path, data: Path, hub: Hub, tmp_path: Path, address: str
) -> None:
    assert push(run, "me/night", "--private", "--out", tmp_path / "out") == 0
    assert hub.repositories["me/night"].private
    (expected,) = nightcrawler.load(run, device="cpu").predict(data / CLIP)
    (found,) = nightcrawler.load(address, device="cpu").predict(data / CLIP)
    assert np.array_equal(found.probs, expected.probs)
    assert found.classes == expected.classes


def test_a_dry_run_sends_nothing_and_names_the_files(
    run: Path, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(run, "me/night", "--dry-run", "--out", tmp_path / "out") == 0
    assert hub.requests == []
    assert {path.name for path in (tmp_path / "out").iterdir()} == SENT
    shown = capsys.readouterr().out
    assert all(f"{tmp_path}/out/{name}: " in shown for name in SENT)
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix in (".pyth", ".pt2")]
    state = read_weights(run / "best.pyth").state
    sent = read_weights(tmp_path / "out/model.safetensors")
    assert tiny.differences(dict(sent.state), dict(state)) == []


def test_files_of_another_folder_are_not_replaced(
    run: Path, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "README.md").write_text("mine")
    assert push(run, "me/night", "--dry-run", "--out", tmp_path) == 2
    assert "README.md: is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"


def test_an_export_is_sent_with_its_graphs_but_no_pickle(
    run: Path, hub: Hub, tmp_path: Path
) -> None:
    from nightcrawler.cli import export

    out = tmp_path / "export"
    assert (
        command_line.run(export.main, [str(run), "--formats", "safetensors", "--out", str(out)])
        == 0
    )
    (out / "model.onnx").write_bytes(b"a graph")
    (out / "model.pt2").write_bytes(b"a pickle")
    (results,) = run.glob("aridx*")
    assert push(out, "me/night", "--results", results) == 0
    files = hub.repositories["me/night"].files
    assert set(files) == SENT | {".gitattributes", "model.onnx"}
    # Results name the checkpoint that the export was made of.
    assert head_of(files["README.md"].decode())["model-index"]
    sha256 = hashlib.sha256((run / "best.pyth").read_bytes()).hexdigest()
    assert json.loads(files["stamp.json"])["checkpoint_sha256"] == sha256


def test_a_model_is_sent_again_as_another_commit(run: Path, hub: Hub, tmp_path: Path) -> None:
    for _ in range(2):
        assert push(run, "me/night", "--out", tmp_path / "out") == 0
    assert len(hub.repositories["me/night"].commits) == 2


LOST, BUSY = None, (503, {})
WAIT, LONG_WAIT = (429, {"Retry_After": "0"}), (429, {"Retry_After": "3600"})


@pytest.mark.parametrize(
    ("faults", "code", "said"),
    [
        (
            {"create": [(401, {})] * 2, "info": [(401, {})] * 2},
            2,
            "the hub does not know the token (401)",
        ),
        ({"create": [(403, {})], "info": [(404, {})]}, 2, "the token may not write there (403)"),
        ({"commit": [(409, {})]}, 2, "somebody else changed it meanwhile (409): run it again"),
        ({"commit": [(412, {})]}, 2, "somebody else changed it meanwhile (412): run it again"),
        ({"commit": [(400, {})]}, 2, "the hub refuses ("),
        ({"create": [LONG_WAIT]}, 75, "the hub is busy (429): run it again in 3600 s"),
        ({"create": [BUSY] * 3}, 75, "the hub is busy (503): run it again in 0 s"),
        ({"create": [LOST] * 9}, 75, "the hub cannot be reached ("),
    ],
)
def test_each_fault_is_one_line_with_an_exit_code(
    run: Path,
    hub: Hub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    faults: dict[str, list[Any]],
    code: int,
    said: str,
) -> None:
    hub.faults = faults
    assert push(run, "me/night", "--out", tmp_path / "out") == code
    shown = capsys.readouterr()
    errors = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: me/night: {said}"), errors[0]
    assert TOKEN not in shown.err + shown.out
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    "faults",
    [
        {"create": [WAIT, WAIT]},
        {"create": [LOST]},
        {"preupload": [WAIT]},
        {"upload": [LOST]},
        {"commit": [LOST]},
    ],
    ids=lambda faults: next(iter(faults)),
)
def test_a_busy_hub_and_a_lost_connection_are_tried_again(
    run: Path, hub: Hub, tmp_path: Path, faults: dict[str, list[Any]]
) -> None:
    hub.faults = faults
    assert push(run, "me/night", "--out", tmp_path / "out") == 0
    assert set(hub.repositories["me/night"].files) == SENT | {".gitattributes"}
    assert not any(faults.values())


@pytest.mark.parametrize(
    ("present", "arguments", "said"),
    [
        (
            Repository(files={".gitattributes": b"", "thesis.pdf": b""}),
            (),
            "the name is taken: it holds thesis.pdf and no stamp.json",
        ),
        (
            Repository(files={"stamp.json": b"{}"}),
            ("--private",),
            "exists and is public: make it private on its page, or name another",
        ),
    ],
)
def test_a_repository_of_something_else_is_left_alone(
    run: Path,
    hub: Hub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    present: Repository,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    hub.repositories["me/night"] = present
    before = dict(present.files)
    assert push(run, "me/night", "--out", tmp_path / "out", *arguments) == 2
    assert f"error: me/night: {said}" in capsys.readouterr().err
    assert present.files == before


@pytest.mark.parametrize(
    ("model", "repository", "arguments", "said"),
    [
        ("{run}", "night", (), "night: expected OWNER/NAME"),
        ("{run}", "me/../night", (), "expected OWNER/NAME"),
        ("{run}/none", "me/night", (), "no such checkpoint"),
        ("{run}", "me/night", ("--results", "{run}/run.json"), "run.json"),
        ("{run}", "me/night", ("--results", "{test}"), "no video has a label"),
        ("{run}", "me/night", ("--truth", "{run}/none.csv"), "none.csv"),
    ],
)
def test_wrong_arguments_are_one_line_before_anything_is_sent(
    run: Path,
    hub: Hub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: str,
    repository: str,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    (test,) = run.glob("testx*")
    words = [text.format(run=run, test=test) for text in (model, repository, *arguments)]
    assert push(*words, "--out", tmp_path / "out") == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert len(shown.splitlines()) == 1
    assert hub.requests == []


def test_no_token_and_offline_are_said(
    run: Path,
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NIGHTCRAWLER_OFFLINE", "1")
    assert push(run, "me/night", "--out", tmp_path / "out") == 2
    assert "not sent, as NIGHTCRAWLER_OFFLINE is set" in capsys.readouterr().err
    monkeypatch.delenv("NIGHTCRAWLER_OFFLINE")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    assert push(run, "me/night", "--out", tmp_path / "out") == 2
    assert "no token of the hub: set HF_TOKEN, or sign in" in capsys.readouterr().err
    assert hub.requests == []


def test_the_folder_of_a_run_keeps_its_own_files(run: Path, hub: Hub, tmp_path: Path) -> None:
    own = tmp_path / "run"
    shutil.copytree(run, own)
    before = {path.name: path.read_bytes() for path in own.iterdir() if path.is_file()}
    assert push(own, "me/night") == 0
    assert {path.name for path in (own / "push").iterdir()} == SENT
    after = {path.name: path.read_bytes() for path in own.iterdir() if path.is_file()}
    assert after == before
