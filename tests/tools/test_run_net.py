"""The command line as a user meets it: errors in one line, exit codes, signals, several processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from nightcrawler.cli.main import main
from nightcrawler.config.load import load_experiment
from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.checkpoint_files import load_checkpoint
from nightcrawler.pseudo.predictions import read_results
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.project import use_project
from tests import tiny
from tests.paths import ROOT
from tests.waiting import wait_until

TRAIN_LIST = "train_label+val_dry.csv"


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_data(tmp_path_factory.mktemp("source"))


@pytest.fixture
def data(source: Path, tmp_path: Path) -> Path:
    """A data folder of the test's own."""
    return Path(shutil.copytree(source, tmp_path / "data"))


def set_row(data: Path, row: str) -> None:
    """Put `row` in place of the second of the training list."""
    rows = (data / TRAIN_LIST).read_text().splitlines()
    (data / TRAIN_LIST).write_text("\n".join([rows[0], row, *rows[2:]]) + "\n")


def foreign_checkpoint(data: Path) -> None:
    torch.save({"model_state": {"stem.weight": torch.zeros(3, 3)}}, data / "foreign.pyth")


def nothing(data: Path) -> None:
    pass


Spoil = Callable[[Path], object]
FAULTS: dict[str, tuple[str, Spoil, tuple[str, ...], tuple[str, ...]]] = {
    "missing list": (
        "train",
        lambda data: (data / TRAIN_LIST).unlink(),
        (),
        (TRAIN_LIST, "no such list", "DATASET.md"),
    ),
    "missing list and weights": (
        "train",
        lambda data: (data / TRAIN_LIST).unlink(),
        ("TRAIN.CHECKPOINT_FILE_PATH", "no/such.pyth"),
        (TRAIN_LIST, "no such list"),
    ),
    "empty list": (
        "train",
        lambda data: (data / TRAIN_LIST).write_text(""),
        (),
        (TRAIN_LIST, "the list is empty"),
    ),
    "label out of range": (
        "train",
        lambda data: set_row(data, "b1.avi,11"),
        (),
        (TRAIN_LIST, "row 2", "label 11 is out of range", "0..10"),
    ),
    "path that climbs": (
        "train",
        lambda data: set_row(data, "../../secret.mp4,1"),
        (),
        (TRAIN_LIST, "row 2", "'../../secret.mp4'", "leaves its folder"),
    ),
    "name twice": (
        "train",
        lambda data: set_row(data, "b0.mp4,1"),
        (),
        ("row 2: 'b0.mp4' is in row 1 already",),
    ),
    "typo in a key": (
        "train",
        nothing,
        ("SOLVER.MAX_EPOCHS", "3"),
        ("command line: SOLVER.MAX_EPOCHS: unknown key", "did you mean SOLVER.MAX_EPOCH?"),
    ),
    "value of another type": (
        "train",
        nothing,
        ("TRAIN.BATCH_SIZE", "many"),
        ("TRAIN.BATCH_SIZE: expected a whole number, found text 'many'",),
    ),
    "key without value": (
        "train",
        nothing,
        ("TRAIN.BATCH_SIZE",),
        ("TRAIN.BATCH_SIZE", "no partner"),
    ),
    "checkpoint that matches nothing": (
        "train",
        foreign_checkpoint,
        ("TRAIN.CHECKPOINT_FILE_PATH", "{data}/foreign.pyth"),
        ("foreign.pyth: fills only 0.0 %", "MODEL.MIN_MATCH", "stem.weight"),
    ),
    "checkpoint that is not there": (
        "train",
        nothing,
        ("TRAIN.CHECKPOINT_FILE_PATH", "uniformer_base_k600_32x4"),
        ("weights 'uniformer_base_k600_32x4' are missing", "TRAIN.CHECKPOINT_FILE_PATH"),
    ),
    "nothing to test": (
        "test",
        nothing,
        (),
        ("best.pyth: no checkpoint to test", "run run.sh first"),
    ),
    "split that is not one": (
        "test",
        nothing,
        ("TEST.DATA_SELECT", "../test"),
        ("split '../test'", "expected one of train, val_dry"),
    ),
    "processes that were not launched": (
        "train",
        nothing,
        ("NUM_GPUS", "2"),
        ("NUM_GPUS 2", "1 processes"),
    ),
}


# Faults that are shown by a process of its own too; the first two are found before torch is loaded.
IN_A_PROCESS = ("typo in a key", "key without value", "missing list")


def assert_one_line(code: int, stderr: str, parts: tuple[str, ...]) -> None:
    """Exit code 2 and one line on standard error that names what is wrong."""
    assert code == 2, stderr
    assert "Traceback" not in stderr
    lines = stderr.splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("error: ")
    assert [part for part in parts if part not in lines[0]] == []


def spoilt(data: Path, fault: str) -> tuple[str, list[str]]:
    """Bring a fault about; returns the task and overrides."""
    task, spoil, overrides, _ = FAULTS[fault]
    spoil(data)
    return task, [text.format(data=data) for text in overrides]


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_one_line_and_exit_code_2(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    task, overrides = spoilt(data, fault)
    code = tiny.run_net_as_process(task, data, tmp_path / "run", *overrides)
    assert_one_line(code, capsys.readouterr().err, FAULTS[fault][3])
    assert not list((tmp_path / "run").glob("*.p*"))


@pytest.mark.parametrize("fault", IN_A_PROCESS)
def test_bad_input_in_a_process_of_its_own(data: Path, tmp_path: Path, fault: str) -> None:
    task, overrides = spoilt(data, fault)
    process = tiny.run_tool("run_net.py", task, *tiny.arguments(data, tmp_path / "run", *overrides))
    assert_one_line(process.returncode, process.stderr, FAULTS[fault][3])
    assert "Traceback" not in process.stdout


def test_a_typo_in_a_file_is_named_with_its_line(data: Path, tmp_path: Path) -> None:
    typo = tmp_path / "typo.yaml"
    typo.write_text("SOLVER:\n  MAX_EPOCH: 3\nTRAIN:\n  BACH_SIZE: 4\n")
    process = tiny.run_tool(
        "run_net.py", "train", *tiny.arguments(data, tmp_path / "run"), "--overlay", str(typo)
    )
    assert_one_line(
        process.returncode,
        process.stderr,
        (f"{typo}:4: TRAIN.BACH_SIZE: unknown key", "TRAIN.BATCH_SIZE"),
    )


def test_too_many_undecodable_clips_stop_training_with_the_list(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b0.mp4", "b1.avi"):
        tiny.damage(data / "labeled_train/Train" / name)
    code, listed = (
        tiny.run_net_as_process("train", data, tmp_path / "run"),
        tmp_path / "run/bad.csv",
    )
    parts = ("2 of 8 videos cannot be used", "DATA.MAX_BAD_FRACTION 0.01", str(listed))
    assert_one_line(code, capsys.readouterr().err, parts)
    assert {line.split(",")[1] for line in listed.read_text().splitlines()[1:]} == {
        "b0.mp4",
        "b1.avi",
    }


def test_debug_shows_where_an_error_was_raised(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        tiny.run_net_as_process(
            "test", data, tmp_path / "run", "TEST.DATA_SELECT", "x/y", "--debug"
        )
        == 2
    )
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.splitlines()[-1].startswith("error: split 'x/y'")


@pytest.mark.parametrize("argv", [["retrain"], [], ["train"], ["train", "--cfg"]])
def test_a_command_line_that_is_wrong_exits_with_2_and_shows_its_use(argv: list[str]) -> None:
    process = tiny.run_tool("run_net.py", *argv)
    assert process.returncode == 2
    assert process.stderr.startswith("usage: tools/run_net.py")
    assert "Traceback" not in process.stderr


def test_show_config_prints_what_a_run_would_use(data: Path, tmp_path: Path) -> None:
    arguments = tiny.arguments(data, tmp_path / "run", "SOLVER.MAX_EPOCH", 7)
    process = tiny.run_tool("run_net.py", "show-config", *arguments)
    shown = yaml.safe_load(process.stdout)
    assert (process.returncode, process.stderr) == (0, "")
    assert (shown["SOLVER"]["MAX_EPOCH"], shown["UNIFORMER"]["DEPTH"]) == (7, [1, 1, 1, 1])
    assert not (tmp_path / "run").exists()


def test_output_goes_to_the_experiments_folder_by_default() -> None:
    process = tiny.run_tool(
        "run_net.py", "show-config", "--cfg", str(ROOT / tiny.EXPERIMENT / "config.yaml")
    )
    assert yaml.safe_load(process.stdout)["OUTPUT_DIR"] == tiny.EXPERIMENT


def test_an_output_folder_of_a_file_is_obeyed(tmp_path: Path) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("OUTPUT_DIR: runs/mine\n")
    cfg = str(ROOT / tiny.EXPERIMENT / "config.yaml")
    process = tiny.run_tool("run_net.py", "show-config", "--cfg", cfg, "--overlay", str(overlay))
    assert yaml.safe_load(process.stdout)["OUTPUT_DIR"] == "runs/mine"
    last = ("OUTPUT_DIR", "runs/last")
    process = tiny.run_tool(
        "run_net.py", "show-config", "--cfg", cfg, "--overlay", str(overlay), *last
    )
    assert yaml.safe_load(process.stdout)["OUTPUT_DIR"] == "runs/last"


def test_relative_places_say_where_they_lead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = str(ROOT / tiny.EXPERIMENT / "config.yaml")
    with use_project(ROOT):
        settings = ("TRAIN.CHECKPOINT_FILE_PATH", "", "DATA.PATH_PREFIX", "no/such/data")
        out = ("OUTPUT_DIR", str(tmp_path / "out"), "DATA.CAMERA", "night")
        with pytest.raises(UserError) as caught:
            tiny.run_net_argv(["train", "--cfg", cfg, *settings, *out])
    error = capsys.readouterr().err
    assert f"note: DATA.PATH_PREFIX no/such/data is below the project: {ROOT}/no/such" in error
    assert f"{ROOT}/no/such/data/train_label+val_dry.csv: no such list" in str(caught.value)


@pytest.mark.parametrize(
    ("command", "has", "lacks"),
    [("config", "0 done", "75"), ("train", "75 stopped", "3 tested"), ("test", "3 tested", "75")],
)
def test_help_lists_the_exit_codes_of_its_task(
    command: str, has: str, lacks: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    codes = capsys.readouterr().out.partition("exit codes:")[2]
    assert has in codes
    assert lacks not in codes


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    def check() -> None:
        assert process.poll() is None, "ended before it was asked to"

    wait_until(condition, timeout=60, check=check)


def test_a_signal_saves_exits_with_75_and_the_same_command_goes_on(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    long = tiny.arguments(data, out, "SOLVER.MAX_EPOCH", 500, "TRAIN.EVAL_PERIOD", 500)
    command = [sys.executable, str(ROOT / "tools/run_net.py"), "train", *long]
    process = subprocess.Popen(
        command, env=tiny.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        wait_for(lambda: (out / "metrics.jsonl").is_file(), process)
        os.kill(process.pid, signal.SIGTERM)
        shown, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 75, shown
    assert "start the same command again to go on" in shown
    assert "Traceback" not in shown
    rows = tiny.metrics(out, "train")
    last = (rows[-1]["epoch"], rows[-1]["step"])
    assert (out / "PREEMPTED").read_text() == f"epoch {last[0]} step {last[1]}\n"
    state = load_checkpoint(out / "checkpoints/checkpoint_latest.pyth")
    assert (state["epoch"] + 1, state["step"]) == last
    trainer = build_trainer(load_experiment(long[1], [long[3]], long[4:]))
    assert (trainer.epoch + 1, trainer.step) == last


def test_several_processes_keep_the_exit_code_of_unreadable_videos(
    data: Path, tmp_path: Path
) -> None:
    """DATASET.md: test.sh ends with exit code 3, and every video has its row."""
    assert tiny.run_net("train", data, tmp_path / "train", "SOLVER.MAX_EPOCH", 1) == 0
    tiny.damage(data / "dark_train/Train/1.mp4")
    weights = ("TEST.CHECKPOINT_FILE_PATH", tmp_path / "train/best.pyth")
    process = tiny.launch("test", 2, data, tmp_path / "run", *weights)
    found = read_results(tmp_path / "run/total_unlabelx4x32x1x1.npz")
    assert found.names == [
        line.split(",")[0] for line in (data / "total_unlabel.csv").read_text().split()
    ]
    assert found.ok.tolist() == [name != "1.mp4" for name in found.names]
    assert "Traceback" not in process.stderr
    assert process.returncode == 3


def test_several_processes_say_one_error_and_exit_with_2(data: Path, tmp_path: Path) -> None:
    """Ranks that find the same fault may each say so; nothing else may be on standard error."""
    (data / TRAIN_LIST).unlink()
    process = tiny.launch("train", 2, data, tmp_path / "run")
    said = "\n".join(dict.fromkeys(process.stderr.splitlines()))
    assert_one_line(process.returncode, said, (TRAIN_LIST, "no such list"))
