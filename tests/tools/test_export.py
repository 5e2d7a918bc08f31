"""`tools/export.py` from a checkpoint to files, tables and card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nightcrawler.export import measure
from nightcrawler.utils import command_line
from tests import tiny
from tests.export.made import write_checkpoint


def export(*argv: Any) -> int:
    return command_line.run(tiny.load_tool("export").main, list(map(str, argv)))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exp") / "night"
    write_checkpoint(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dark test videos without labels, and their labels elsewhere."""
    folder = tmp_path_factory.mktemp("data")
    for number in range(2):
        tiny.write_video(folder / f"Test/{number}.mp4", number, number, dark=True)
    tiny.write_rows(folder / "test.csv", [("0.mp4", -1), ("1.mp4", -1)])
    tiny.write_rows(folder / "truth.csv", [("0.mp4", 0), ("1.mp4", 1)])
    tiny.write_rows(folder / "val_dry.csv", [("0.mp4", 0)])
    return folder


def test_files_tables_and_card(
    experiment: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("onnxscript", "onnx", "onnxruntime"):
        pytest.importorskip(
            name, reason="needs the extra: pip install 'nightcrawler-video[export]'"
        )
    clips = sorted((data / "Test").glob("*.mp4"))
    shown = [
        "--int8",
        "--check",
        *clips,
        "--benchmark",
        "--repeats",
        1,
        "--split",
        "test",
        "--data",
        data,
    ]
    assert (
        export(experiment, "--out", tmp_path, "--threads", 1, *shown, "--truth", data / "truth.csv")
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    names = {"model.pt2", "model.onnx", "model.int8.onnx", "model.safetensors", "MODEL_CARD.md"}
    assert {path.name for path in tmp_path.iterdir()} == names
    start = next(row for row, line in enumerate(lines) if line.startswith("parity on 2 clips"))
    rows = [line.split() for line in lines[start + 1 : start + 5]]
    assert [row[0] for row in rows] == ["pt2", "onnx", "int8", "as"]
    assert all(float(row[1]) <= 1e-4 and row[-1] == "ok" for row in rows[:2])
    assert sum("times PyTorch's" in line for line in lines) == 4
    card = (tmp_path / "MODEL_CARD.md").read_text()
    for name in ("as tested", "PyTorch", "pt2", "onnx", "int8"):
        assert f"| {name}, split test, one view, centre crop | top-1 " in card
    assert card.count("of 2 videos") == 5


def test_a_difference_is_told_by_the_exit_code(
    experiment: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measure, "TOLERANCE", -1.0)
    assert export(experiment, "--formats", "pt2", "--check", data / "Test/0.mp4") == 1
    assert "DIFFERS" in capsys.readouterr().out
    assert {path.name for path in (experiment / "export").iterdir()} == {
        "model.pt2",
        "MODEL_CARD.md",
    }


def test_faults_are_one_line(
    experiment: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [experiment, "--formats", "safetensors"]
    for argv, text in {
        (data,): "no such checkpoint; expected the folder of an experiment",
        (*plain, "--out", data / "test.csv"): "test.csv: is a file, expected a folder",
        (*plain, "--split", "val_dry", "--data", data): "--split val_dry is bright",
        (*plain, "--split", "test", "--data", data): "no video has a label: give --truth CSV",
        (*plain, "--check", data / "no.mp4"): "no.mp4: no such file",
        (*plain, "--check", data / "truth.csv"): "truth.csv: error",
        (*plain, "--results", data / "truth.csv"): "not a readable results file",
    }.items():
        assert export(*argv) == command_line.EXIT_USER_ERROR
        error = [
            line for line in capsys.readouterr().err.splitlines() if not line.startswith("measure ")
        ]
        assert text in error[0]
        assert len(error) == 1


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--int8", "--formats", "pt2"], "add onnx to --formats"),
        (["--frame-size", "480"], "expected HEIGHTxWIDTH"),
        (["--truth", "a.csv"], "--truth needs --split or --results"),
        (["--batch", "0"], "--batch 0: expected at least 1"),
        (["--batch", "7"], "--batch needs --benchmark"),
        (["--repeats", "3", "--split", "test"], "--repeats needs --benchmark"),
        (["--threads", "1"], "--threads needs --benchmark or --check or --split"),
        (["--data", "d", "--benchmark"], "--data needs --split"),
    ],
)
def test_options_that_do_not_go_together(
    argv: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        export("exp", *argv)
    assert caught.value.code == 2
    assert text in capsys.readouterr().err


def test_neither_the_input_nor_a_foreign_card_is_replaced(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("--formats", "safetensors")
    assert export(experiment, *argv, "--out", tmp_path) == 0
    model = tmp_path / "model.safetensors"
    content = model.read_bytes()
    assert export(model, *argv, "--bright", "--out", tmp_path) == command_line.EXIT_USER_ERROR
    assert f"{model}: is a file to read ({model})" in capsys.readouterr().err
    assert model.read_bytes() == content
    assert export(experiment, *argv, "--out", tmp_path) == 0, "what it wrote may be written again"
    card = tmp_path / "MODEL_CARD.md"
    card.write_text("# My own model\n")
    model.unlink()
    assert export(experiment, *argv, "--out", tmp_path) == command_line.EXIT_USER_ERROR
    assert f"{card}: exists and was not written by an export" in capsys.readouterr().err
    assert card.read_text() == "# My own model\n"
    assert not model.exists()
