"""Advice of errors and helps names things that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightcrawler.cli.main import main
from nightcrawler.utils.project import use_project
from tests.paths import ROOT


def run(*argv: str, root: Path = ROOT) -> int:
    with use_project(root):
        return main(list(argv))


def test_help_of_labels_shows_the_options_of_a_round(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("label", "--help")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for option in ("ROUND", "--recipe", "--thresholds", "--oracle", "--predictions"):
        assert option in shown


def test_a_round_without_experiments_names_no_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("label", "9") == 2
    error = capsys.readouterr().err
    assert "exp_pseudo_stage8" in error
    assert ".sh" not in error
    assert "--predictions" in error


@pytest.mark.parametrize("trained", [False, True])
def test_a_project_is_no_experiment(
    tmp_path: Path, trained: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "exp_adapt_bn/uniformer"
    folder.mkdir(parents=True)
    if trained:
        (folder / "best.pyth").touch()
    (tmp_path / "a.mp4").touch()
    assert run("predict", str(tmp_path / "a.mp4"), "--experiment", str(tmp_path)) == 2
    error = capsys.readouterr().err
    assert "run.sh" not in error
    expected = f"such as {folder}" if trained else "an experiment that was trained"
    assert expected in error


def test_the_note_about_demo_models_does_not_hide_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("predict", str(tmp_path / "nosuch.mp4")) == 2
    error = capsys.readouterr().err
    assert error == f"error: {tmp_path / 'nosuch.mp4'}: no such file or folder\n"
