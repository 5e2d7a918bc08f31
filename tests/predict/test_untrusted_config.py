"""A checkpoint's configuration may name modules to import: only those the user allows are imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import nightcrawler
from nightcrawler.cli import main as program
from nightcrawler.engine.checkpoint_files import save_checkpoint
from nightcrawler.models.formats import read_weights
from nightcrawler.predict import checkpoints
from nightcrawler.predict.checkpoints import PredictOptions, build_trained_config
from nightcrawler.utils.errors import UserError
from tests import tiny
from tests.export.made import write_checkpoint

MODULE = "stranger_module"
CODE = """
from pathlib import Path
Path(__file__).with_name("imported").touch()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a module that leaves a file when it is imported."""
    (tmp_path / f"{MODULE}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop(MODULE, None)


@pytest.fixture
def checkpoint(folder: Path) -> Path:
    """A checkpoint whose configuration names the module."""
    path = write_checkpoint(folder / "run")
    content = torch.load(path, weights_only=True)
    assert "IMPORTS: []" in content["cfg"]
    content["cfg"] = content["cfg"].replace("IMPORTS: []", f"IMPORTS: [{MODULE}]")
    save_checkpoint(path, content)
    return path


def test_loading_refuses_and_imports_nothing(checkpoint: Path, folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        nightcrawler.load(checkpoint, device="cpu")
    message = str(caught.value)
    assert message.startswith(f"{checkpoint} (its configuration):")
    assert f"IMPORTS: wants to import {MODULE}, and importing a module runs it" in message
    assert f"--imports {MODULE}" in message
    assert f"imports=['{MODULE}']" in message
    assert "\n" not in message
    assert not (folder / "imported").exists()


def test_loading_imports_modules_that_the_user_names(checkpoint: Path, folder: Path) -> None:
    predictor = nightcrawler.load(checkpoint, device="cpu", imports=[MODULE])
    assert len(predictor.class_names) == 11
    assert (folder / "imported").exists()


def test_another_module_does_not_allow_this_one(checkpoint: Path, folder: Path) -> None:
    with pytest.raises(UserError, match=f"wants to import {MODULE},"):
        nightcrawler.load(checkpoint, device="cpu", imports=["json"])
    assert not (folder / "imported").exists()


def test_modules_of_installed_plugins_are_allowed(
    checkpoint: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "plugin_modules", lambda: {MODULE})
    build_trained_config(read_weights(checkpoint), PredictOptions(device="cpu"))
    assert (folder / "imported").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "a.mp4", "--experiment", "run"],
        ["export", "run", "--formats", "safetensors", "--out", "exported"],
    ],
)
def test_commands_refuse_unless_imports_names_it(
    command: list[str], checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_video(folder / "a.mp4", 0, 0, dark=True)
    assert program.main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert f"--imports {MODULE}" in error
    assert error.count("\n") == 1
    assert not (folder / "imported").exists()
    assert program.main([*command, "--imports", MODULE]) == 0
    assert (folder / "imported").exists()


def test_bases_of_a_checkpoints_configuration_stay_inside_it(checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["cfg"] = f"_BASE_: /etc/hostname\n{content['cfg']}"
    save_checkpoint(checkpoint, content)
    with pytest.raises(UserError, match="_BASE_"):
        nightcrawler.load(checkpoint, device="cpu")


def test_a_model_that_an_earlier_version_trained_on_darkened_clips_is_loaded(
    tmp_path: Path,
) -> None:
    """Training refuses the combination now, but prediction uses no camera."""
    path = write_checkpoint(tmp_path / "run")
    content = torch.load(path, weights_only=True)
    for before, now in (("DARKEN: 0.0", "DARKEN: 0.5"), ("CAMERA: fit", "CAMERA: night")):
        assert before in content["cfg"]
        content["cfg"] = content["cfg"].replace(before, now)
    assert "BEST_SPLIT: val_dark" in content["cfg"]
    save_checkpoint(path, content)
    cfg = build_trained_config(read_weights(path), PredictOptions(device="cpu"))
    assert cfg.AUG.DARKEN == 0
