"""Options of a prediction that would do nothing, or something by accident, are refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from nightcrawler.cli.predict import find_items, main, parse
from nightcrawler.utils.command_line import run
from nightcrawler.utils.errors import UserError


@pytest.mark.parametrize(
    "option",
    [
        "webhook",
        "mqtt",
        "shard",
        "out",
        "annotate",
        "watch",
        "csv",
        "json",
        "jsonl",
        "timeline",
        "model",
        "experiment",
        "ensemble",
        "prefix",
        "event-class",
        "labels",
        "imports",
    ],
)
def test_an_empty_value_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Such as that of a variable that is not set: the current folder is not meant."""
    with pytest.raises(SystemExit) as caught:
        parse(["a.mp4", f"--{option}", ""])
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert f"--{option}" in shown
    assert "is empty: give a value" in shown


def test_a_number_out_of_range_is_told_before_what_goes_with_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parse(["a.mp4", "--views", "0"])
    assert "--views 0: expected 1 to " in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["merge", "", "--out", "p"], ["merge", "a.csv", "--out", ""]])
def test_a_merge_takes_no_empty_path(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(main, argv)
    assert "is empty: give a value" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--top", "5"], ["--reject"]])
def test_what_parts_do_not_hold_is_for_the_merge(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(["a.csv", "--out", "p", *option])
    assert f"{option[0]} does not go with --out: give it to merge" in capsys.readouterr().err


def test_an_archive_that_a_list_names_is_not_replaced(tmp_path: Path) -> None:
    """Its members have paths of no file; the archive is what an output would replace."""
    archive = tmp_path / "clips.tar"
    archive.write_bytes(b"archive")
    listed = tmp_path / "mine.csv"
    listed.write_text("clips.tar::a.mp4,0\n")
    arguments = parse([str(listed), "--experiment", "x", "--csv", str(archive)])
    with pytest.raises(UserError, match=f"{archive}: is a file to read"):
        find_items(arguments, num_classes=1)


def test_decoding_processes_are_not_for_skeletons_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(*poses: bool) -> None:
        found = [SimpleNamespace(about={"poses": ""} if pose else {}) for pose in poses]
        ensemble = SimpleNamespace(predictors=found, class_names=("Run",))
        monkeypatch.setattr("nightcrawler.cli.predict.build_models", lambda _: (ensemble, ""))

    argv = ["no-such.mp4", "--experiment", "x", "--workers"]
    for poses, workers, said in (
        ((True, True), "2", "--workers 2: has no effect on models of skeletons alone"),
        ((True, True), "0", "no-such.mp4"),
        ((True, False), "2", "no-such.mp4"),
    ):
        build(*poses)
        assert run(main, [*argv, workers]) == 2
        assert said in capsys.readouterr().err
