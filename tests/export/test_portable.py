"""Exported files, their card and converted weights name no folder of the machine that made them."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nightcrawler.config.portable import portable_text, portable_values
from nightcrawler.config.yaml import parse_yaml
from nightcrawler.data.lowlight.enhance.zero_dce import DCENet
from nightcrawler.models.formats import read_weights
from nightcrawler.utils import command_line
from tests import tiny
from tests.export.made import write_checkpoint
from tests.paths import ROOT

# Part of every path that a training on this machine names.
MARKER = "zebra-crossing"


def run(tool: str, *argv: object) -> int:
    return command_line.run(tiny.load_tool(tool).main, list(map(str, argv)))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose configuration names folders in every key that can."""
    home = tmp_path_factory.mktemp("machine") / MARKER
    tiny.write_video(home / "data/Test/0.mp4", 0, 0, dark=True)
    tiny.write_rows(home / "data/test.csv", [("0.mp4", 0)])
    save_file(DCENet().state_dict(), home / "dce.safetensors")
    keys = {
        "DATA.PATH_PREFIX": home / "data",
        "DATA.CACHE": "disk",
        "DATA.CACHE_DIR": home / "cache",
        "DATA.CACHE_GIB": "3.0",
        "DATA.CHECKSUMS": home / "sums.txt",
        "DATA.CAMERA": home / "camera.yaml",
        "AUG.DARKEN": "0.5",
        "TRAIN.BEST_SPLIT": "val_dry",
        "TRAIN.CHECKPOINT_FILE_PATH": home / "start.pyth",
        "ENHANCE.TEST": "gamma",
        "ENHANCE.TRAIN": "zero_dce",
        # Prediction darkens nothing, so that of training is left out of the card.
        "ENHANCE.VAL": "zero_dce",
        "ENHANCE.ZERO_DCE_WEIGHTS": f"../{MARKER}/dce.safetensors",
        "TEST.CHECKPOINT_FILE_PATH": home / "best.pyth",
    }
    settings = [str(text) for pair in keys.items() for text in pair]
    return write_checkpoint(home / "night", "uniformer_b32_k600", *settings)


def leaks(path: Path) -> list[str]:
    """Folders of this machine that a file names, in its parts too."""
    parts = {path.name: path.read_bytes()}
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as container:
            parts |= {name: container.read(name) for name in container.namelist()}
    places = (MARKER, str(ROOT), sys.prefix, str(Path(torch.__file__).parent))
    found = []
    for name, content in parts.items():
        found += [f"{name}: {place}" for place in places if place.encode() in content]
    return found


def test_the_checkpoint_itself_says_where_it_was_trained(checkpoint: Path) -> None:
    """Else the other tests would find nothing because there is nothing."""
    assert read_weights(checkpoint).config_text.count(MARKER) == 8


def test_exported_files_and_card(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("onnxscript", "onnx", "onnxruntime"):
        pytest.importorskip(name, reason="needs the extra: pip install '.[export]'")
    data = checkpoint.parents[1] / "data"
    argv = ("--int8", "--check", data / "Test/0.mp4", "--split", "test", "--data", data)
    assert run("export", checkpoint, "--out", tmp_path / "out", *argv) == 0
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) == 5
    assert [leak for path in files for leak in leaks(path)] == []
    card = (tmp_path / "out/MODEL_CARD.md").read_text()
    assert "ENHANCE.ZERO_DCE_WEIGHTS: dce.safetensors" in card
    assert "| started from | start.pyth |" in card


@pytest.mark.parametrize("suffix", [".safetensors", ".pyth"])
def test_converted_weights(checkpoint: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"a{suffix}"
    assert run("convert_checkpoint", checkpoint, "--to", out) == 0
    assert [leak for path in tmp_path.iterdir() for leak in leaks(path)] == []
    kept = parse_yaml(read_weights(out).config_text, out).values
    given = parse_yaml(read_weights(checkpoint).config_text, checkpoint).values
    differing = {key for key in given if given[key] != kept[key]}
    assert kept.keys() == given.keys()
    assert differing == {
        "OUTPUT_DIR",
        "DATA.PATH_PREFIX",
        "DATA.CACHE_DIR",
        "DATA.CHECKSUMS",
        "DATA.CAMERA",
        "TRAIN.CHECKPOINT_FILE_PATH",
        "ENHANCE.ZERO_DCE_WEIGHTS",
        "TEST.CHECKPOINT_FILE_PATH",
    }


def test_what_is_no_place_of_a_machine_stays() -> None:
    values = {
        "ENHANCE.ZERO_DCE_WEIGHTS": "weights/Epoch99.pth",
        "DATA.PSEUDO_CSV": "pseudo/stage1.csv",
        "DATA.CAMERA": "~alice/camera.yaml",
        "IMPORTS": ["my.models", "/srv/models.py"],
        "DATA.MEAN": [0.45, 0.5, 0.5],
        "MODEL.CLASS_NAMES": ["a..b", "c/d"],
    }
    assert portable_values(values) == {
        **values,
        "DATA.CAMERA": "camera.yaml",
        "IMPORTS": ["my.models", "models.py"],
    }
    assert portable_text("", Path("a")) == ""
