"""The runner: order, what is done again and what is not, kills, failures, several at a time."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.file_hashes import FileHashes
from nightcrawler.workflow.console import Screen, plan_rows, table
from nightcrawler.workflow.import_outputs import import_outputs
from nightcrawler.workflow.run import Runner
from nightcrawler.workflow.run_options import RunOptions
from nightcrawler.workflow.task import Task, dependencies, downstream, match
from nightcrawler.workflow.task_state import (
    STARTED,
    TaskState,
    check_task,
    mark_redo,
    read_state,
    reads_same_places,
    write_state,
)
from tests.paths import ROOT
from tests.pseudo.made import made
from tests.workflow import chain

ALL = {task.name for task in chain.small_chain(Path("x"))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return chain.prepare(tmp_path / "run")


def test_tasks_run_in_order_once(folder: Path) -> None:
    tasks = chain.small_chain(folder)
    assert chain.run(folder, tasks)[0] == 0
    names = chain.started(folder)
    assert sorted(names) == sorted(ALL)
    for name, before in dependencies(tasks).items():
        assert all(names.index(other) < names.index(name) for other in before)
    assert before_of(tasks)["label/second"] == {"test/first/a", "test/first/b"}
    assert before_of(tasks)["train/second/a"] == {"train/first/a", "label/second"}
    assert chain.run(folder, tasks)[0] == 0
    assert chain.started(folder) == []


def before_of(tasks: list[Task]) -> dict[str, set[str]]:
    return {name: set(before) for name, before in dependencies(tasks).items()}


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ("list.csv", ALL),
        (
            "recipe.txt",
            {
                "label/second",
                "train/second/a",
                "train/second/b",
                "test/second/a",
                "test/second/b",
                "vote",
            },
        ),
        ("pseudo/second.csv", {"label/second"}),
        ("second/b/1.pkl", {"test/second/b"}),
        ("second/b/best.pyth", {"train/second/b"}),
        ("vote/arid_pred.csv", {"vote"}),
    ],
)
def test_a_change_is_followed_down_the_chain_and_no_further(
    folder: Path, change: str, again: set[str]
) -> None:
    """A changed input changes all below it; a damaged output is made again, and as before: nothing below changes."""
    tasks = chain.small_chain(folder)
    chain.run(folder, tasks)
    chain.journal(folder)
    before = chain.outputs(folder, tasks)
    (folder / change).write_text("other\n")
    assert chain.run(folder, tasks)[0] == 0
    assert set(chain.started(folder)) == again
    changed = {
        name for name, content in chain.outputs(folder, tasks).items() if content != before[name]
    }
    assert bool(changed) == (change in ("list.csv", "recipe.txt"))


def test_a_missing_output_and_a_changed_configuration_are_seen(folder: Path) -> None:
    tasks = chain.small_chain(folder)
    chain.run(folder, tasks)
    chain.journal(folder)
    (folder / "first/a/2.pkl").unlink()
    chain.run(folder, tasks)
    assert chain.started(folder) == ["test/first/a"]
    other = [
        replace(task, signature="new") if task.name == "train/second/a" else task for task in tasks
    ]
    chain.run(folder, other, redo=True)
    assert chain.started(folder) == [
        "train/second/a"
    ]  # the fake gives the same bytes: nothing follows


def test_an_outdated_training_starts_anew_and_a_stopped_one_resumes(folder: Path) -> None:
    tasks = chain.small_chain(folder)
    chain.run(folder, tasks)
    saved = folder / "first/a/checkpoints/latest"
    saved.write_text("3 poison")
    (folder / "list.csv").write_text("new.mp4,1\n")
    chain.run(folder, tasks)
    clean = chain.prepare(folder.parent / "clean")
    (clean / "list.csv").write_text("new.mp4,1\n")
    chain.run(clean, chain.small_chain(clean))
    assert (folder / "first/a/best.pyth").read_bytes() == (clean / "first/a/best.pyth").read_bytes()


def test_ten_kills_leave_the_same_bytes(folder: Path) -> None:
    whole = chain.prepare(folder.parent / "whole")
    chain.run(whole, chain.small_chain(whole), jobs=2)
    rng = random.Random(4)
    command = [sys.executable, "-m", "tests.workflow.chain", "here", str(folder), "0.05", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    open_tasks = []
    for _ in range(10):
        said = num_lines(folder) + rng.choice((1, 2, 3))
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
        until(
            lambda said=said, process=process: (
                num_lines(folder) >= said or process.poll() is not None
            ),
            10,
        )
        time.sleep(rng.uniform(0.0, 0.08))  # a random moment of the tasks, not a wait for one
        process.kill()
        process.wait()
        states = [read_state(task.state_file) for task in chain.small_chain(folder)]
        open_tasks.append(sum(state is None or state.status != "done" for state in states))
    assert open_tasks[-1] < len(ALL)
    assert open_tasks == sorted(open_tasks, reverse=True)  # what was done stays done
    assert (
        subprocess.run(command, cwd=ROOT, env=env, check=False, capture_output=True).returncode == 0
    )
    ended = [line for line in chain.journal(folder) if line.startswith("end ")]
    tasks = chain.small_chain(folder)
    assert chain.outputs(folder, tasks) == chain.outputs(whole, chain.small_chain(whole))
    assert {line.removeprefix("end ") for line in ended} == ALL
    assert {status_of(task) for task in tasks} == {"done"}


def num_lines(folder: Path) -> int:
    path = folder / "journal"
    return len(path.read_text().splitlines()) if path.exists() else 0


def status_of(task: Task) -> str:
    state = read_state(task.state_file)
    return state.status if state else "none"


def test_a_kill_ends_the_tasks_too(folder: Path) -> None:
    command = [sys.executable, "-m", "tests.workflow.chain", "here", str(folder), "4", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        until(lambda: (folder / "journal").exists())
    finally:
        process.kill()
        process.wait()
    lock = chain.small_chain(folder)[0].lock_file
    until(lambda: is_free(lock), 8)  # the training ends after its step


def is_free(lock: Path) -> bool:
    with open(lock) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)]
)
def test_a_request_to_stop_lets_tasks_save_themselves(
    folder: Path, number: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-m", "tests.workflow.chain", "here", str(folder), "2", "2"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    until(
        lambda: (
            (folder / "journal").exists()
            and len((folder / "journal").read_text().splitlines()) == 2
        )
    )
    process.send_signal(number)
    assert process.wait(10) == code
    assert (folder / "first/a/checkpoints/latest").exists()
    state = json.loads((folder / "pipeline.json").read_text())
    assert [task["status"] for task in state["links"]][:3] == ["stopped", "waiting", "stopped"]
    tasks = chain.small_chain(folder)
    chain.run(folder, tasks, jobs=2)
    whole = chain.prepare(folder.parent / "whole")
    chain.run(whole, chain.small_chain(whole), jobs=2)
    assert chain.outputs(folder, tasks) == chain.outputs(whole, chain.small_chain(whole))


def test_a_failure_stops_what_needs_it_and_nothing_else(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "recipe.txt").write_text("break\n")
    code, runner = chain.run(folder, chain.small_chain(folder))
    assert code == 1
    assert {name for name, status in runner.status.items() if status == "failed"} == {
        "label/second"
    }
    assert {name for name, status in runner.status.items() if status == "blocked"} == {
        name for name in ALL if "second/" in name or name == "vote"
    }
    assert "error: an input says break (exit code 2, log: " in runner.reasons["label/second"]
    assert "error: an input says break" in (folder / "logs/label-second.log").read_text()
    state = {
        task["name"]: task for task in json.loads((folder / "pipeline.json").read_text())["links"]
    }
    assert (state["label/second"]["status"], state["label/second"]["exit_code"]) == ("failed", 2)
    (folder / "recipe.txt").write_text("mended\n")
    chain.journal(folder)
    assert chain.run(folder, chain.small_chain(folder))[0] == 0
    assert not any(name.startswith(("train/first", "test/first")) for name in chain.started(folder))


def test_a_task_that_does_not_write_what_it_should_has_failed(folder: Path) -> None:
    first, *rest = chain.small_chain(folder)
    lazy = replace(first, command=(sys.executable, "-c", "pass"))
    code, runner = chain.run(folder, [lazy, *rest])
    assert code == 1
    assert runner.reasons[first.name] == "exit code 0, but it did not write best.pyth"


def test_a_program_that_is_not_there_is_a_failure_of_its_task(folder: Path) -> None:
    first, *rest = chain.small_chain(folder)
    code, runner = chain.run(folder, [replace(first, command=(str(folder / "gone"),)), *rest])
    assert code == 1
    assert "gone" in runner.reasons[first.name]
    assert runner.status["train/first/b"] == "done"


def test_tasks_of_a_stage_run_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TASK_STARTS", "2")  # the first waits for the second's start
    tasks = chain.small_chain(folder)
    assert chain.run(folder, tasks, jobs=2)[0] == 0
    lines = chain.journal(folder)
    assert {lines[0], lines[1]} == {"start train/first/a", "start train/first/b"}
    running, most = set(), 0
    for line in lines:
        word, name = line.split()
        (running.add if word == "start" else running.discard)(name)
        most = max(most, len(running))
    assert most == 2


def test_time_left_is_told_by_what_tasks_of_a_kind_took(folder: Path) -> None:
    tasks = chain.small_chain(folder)
    runner = Runner(tasks, RunOptions(ROOT, folder, jobs=2), None, Screen(quiet=True))
    assert runner.progress().seconds_left is None
    for name, seconds in (("train/first/a", 10.0), ("train/first/b", 20.0), ("test/first/a", 4.0)):
        runner.states[name], runner.status[name] = (
            TaskState("done", "", {}, seconds=seconds),
            "done",
        )
    assert runner.progress().seconds_left == (2 * 15.0 + 3 * 4.0) / 2


def test_only_some_tasks(folder: Path) -> None:
    tasks = chain.small_chain(folder)
    only = match(tasks, ["first"])
    assert only == {name for name in ALL if "/first/" in name}
    code, runner = chain.run(folder, tasks, selected={"label/second"})
    assert code == 1
    assert runner.reasons["label/second"] == "needs test/first/a, which is not done (new)"
    assert chain.run(folder, tasks, selected=only)[0] == 0
    assert set(chain.started(folder)) == only
    assert chain.run(folder, tasks, selected={"label/second"})[0] == 0
    assert chain.started(folder) == ["label/second"]


def test_names_are_matched() -> None:
    tasks = chain.small_chain(Path("x"))
    assert match(tasks, ["train/*/b"]) == {"train/first/b", "train/second/b"}
    assert match(tasks, ["vote", "first/a"]) == {"vote", "train/first/a", "test/first/a"}
    with pytest.raises(UserError, match="'firs' matches no task"):
        match(tasks, ["firs"])


def test_from_a_task_on_everything_is_done_again_even_after_a_kill(folder: Path) -> None:
    tasks = chain.small_chain(folder)
    chain.run(folder, tasks)
    chain.journal(folder)
    again = downstream({"label/second"}, dependencies(tasks))
    assert again == {name for name in ALL if name.split("/")[-2:-1] == ["second"]} | {
        "label/second",
        "vote",
    }
    mark_redo([task for task in tasks if task.name in again])
    chain.run(folder, tasks, selected={"label/second"})
    assert chain.started(folder) == ["label/second"]
    chain.run(folder, tasks)
    assert set(chain.started(folder)) == again - {"label/second"}


def test_the_plan_says_what_would_be_done(folder: Path) -> None:
    tasks = chain.small_chain(folder)
    chain.run(folder, tasks)
    (folder / "recipe.txt").write_text("other\n")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    rows = plan_rows(tasks, FileHashes(folder / "none.json"), set(), ALL)
    found = {task.name: (status, reason) for task, status, reason, *_ in rows}
    assert found["test/first/a"] == ("done", "")
    assert found["label/second"] == ("to do", "recipe changed")
    assert found["train/second/a"] == ("to do", "if label/second changes")
    assert (
        list(table(rows, "oracle"))[-1] == "10 tasks, 4 done, at most 6 to do, choices are oracle"
    )
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    rows = plan_rows(
        tasks, FileHashes(folder / "none.json"), {"train/first/b"}, {"train/first/b", "vote"}
    )
    found = {task.name: (status, reason) for task, status, reason, *_ in rows}
    assert found["train/first/b"] == ("to do", "to be done again")
    assert found["label/second"] == ("left out", "recipe changed")


def test_what_others_made_is_left_alone(folder: Path) -> None:
    tasks = chain.small_chain(folder)
    mine = folder / "pseudo/second.csv"
    mine.parent.mkdir()
    mine.write_text("by hand\n")
    code, runner = chain.run(folder, tasks)
    assert code == 1
    assert f"{mine} exists and was not made by this command" in runner.reasons["label/second"]
    assert mine.read_text() == "by hand\n"
    chain.journal(folder)
    assert chain.run(folder, tasks, found="import")[0] == 0
    assert mine.read_text() == "by hand\n"
    assert "label/second" not in chain.started(folder)
    assert chain.run(folder, tasks)[0] == 0
    assert chain.started(folder) == []


def test_what_others_made_is_replaced_on_request(folder: Path) -> None:
    mine = folder / "pseudo/second.csv"
    mine.parent.mkdir()
    mine.write_text("by hand\n")
    assert chain.run(folder, chain.small_chain(folder), found="replace")[0] == 0
    assert mine.read_text() != "by hand\n"


@pytest.mark.parametrize(
    ("marker", "hashed", "begun"), [(True, "me", False), (False, "me", True), (True, "else", None)]
)
def test_a_training_by_hand_is_imported_if_it_is_the_same(
    folder: Path, marker: bool, hashed: str, begun: bool | None
) -> None:
    first, *rest = chain.small_chain(folder)
    tasks = [replace(first, run_hash="me"), *rest]
    here = first.folder
    (here / "checkpoints").mkdir(parents=True)
    for name, text in (
        ("best.pyth", "hand"),
        ("checkpoints/latest", "4 hand"),
        ("run.json", f'{{"config_hash": "{hashed}"}}'),
    ):
        (here / name).write_text(text)
    if marker:
        (here / "DONE").write_text("")
    _, runner = chain.run(folder, tasks, found="import")
    if begun is None:
        assert "has another configuration (hash else, now me)" in runner.reasons[first.name]
    else:
        assert (first.name in chain.started(folder)) == begun
        assert (
            here / "best.pyth"
        ).read_text() == "hand"  # an unfinished one went on from its last step


def test_what_was_imported_and_changed_by_hand_again_is_not_taken_without_asking(
    folder: Path,
) -> None:
    first, *rest = chain.small_chain(folder)
    tasks = [replace(first, run_hash="me"), *rest]
    first.folder.mkdir(parents=True)
    for name, text in (("best.pyth", "hand"), ("run.json", '{"config_hash": "me"}'), ("DONE", "")):
        (first.folder / name).write_text(text)
    assert chain.run(folder, tasks, found="import")[0] == 0
    (first.folder / "best.pyth").write_text("longer by hand")
    code, runner = chain.run(folder, tasks)
    assert code == 1
    assert "best.pyth exists and was not made by this command" in runner.reasons[first.name]
    chain.journal(folder)
    assert chain.run(folder, tasks, found="import")[0] == 0
    assert (first.folder / "best.pyth").read_text() == "longer by hand"
    assert tasks[1].name in chain.started(folder), "tests of the weights before are done again"


def test_results_of_other_weights_are_not_imported(folder: Path) -> None:
    train, test, *_ = chain.small_chain(folder)
    train.folder.mkdir(parents=True)
    (train.folder / "best.pyth").write_text("weights")
    hashes = FileHashes(folder / "hashes.json")
    for weights, up_to_date in (("other", False), (hashes.of(train.folder / "best.pyth"), True)):
        for path in test.outputs:
            made(checkpoint_sha256=weights).save(path)
        assert import_outputs(test, check_task(test, hashes), hashes) == up_to_date
        test.state_file.unlink()


def test_a_training_whose_files_have_moved_starts_anew(folder: Path) -> None:
    """Its trainer would refuse to go on: the run it left names other files."""
    task = next(one for one in chain.small_chain(folder) if one.name == "train/second/a")
    here = replace(task, command=(*task.command, "DATA.PSEUDO_CSV", "here.csv"))
    state = TaskState(STARTED, "", {}, command=list(here.command))
    assert reads_same_places(here, state)
    assert reads_same_places(here, replace(state, command=[]))
    assert not reads_same_places(
        replace(task, command=(*task.command, "DATA.PSEUDO_CSV", "there.csv")), state
    )


def test_a_task_that_another_process_runs_is_waited_for(folder: Path) -> None:
    tasks = chain.small_chain(folder)
    lock = tasks[0].lock_file
    lock.parent.mkdir(parents=True)
    program = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(1, flush=True); input()"
    pipe = subprocess.PIPE
    holder = subprocess.Popen([sys.executable, "-S", "-c", program, lock], stdin=pipe, stdout=pipe)
    assert holder.stdout is not None
    holder.stdout.readline()
    runner = Runner(tasks, RunOptions(ROOT, folder), None, Screen(quiet=True))
    name = tasks[0].name
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(runner.run()))
    thread.start()
    try:
        until(lambda: runner.reasons[name] == "another process runs it: waiting for its end", 20)
        until(lambda: runner.status["train/first/b"] == "done", 20)
        assert runner.status[name] == "waiting"
    finally:
        holder.communicate(b"\n")
        thread.join(60)
    assert codes == [0]
    assert sorted(chain.started(folder)) == sorted(ALL)


def test_two_tasks_must_not_write_one_file() -> None:
    first, *_ = chain.small_chain(Path("x"))
    with pytest.raises(UserError, match=r"best\.pyth: written by train/first/a and by other"):
        dependencies([first, replace(first, name="other")])


def test_hashes_are_remembered_and_a_change_is_seen(tmp_path: Path) -> None:
    path, memory = tmp_path / "a", tmp_path / "memory.json"
    path.write_text("one")
    os.utime(path, (1, 1))
    hashes = FileHashes(memory)
    first = hashes.of(path)
    hashes.save()
    assert FileHashes(memory).of(path) == first
    assert FileHashes(memory).of(tmp_path / "gone") == ""
    path.write_text("two")
    assert FileHashes(memory).of(path) != first
    memory.write_text("{")
    os.utime(path, (1, 1))
    assert len(FileHashes(memory).of(path)) == 64


def test_damaged_states_count_as_none(folder: Path) -> None:
    tasks = chain.small_chain(folder)
    chain.run(folder, tasks)
    chain.journal(folder)
    before = chain.outputs(folder, tasks)
    for text in ("", "[]", '{"status": "done"}', '{"more": 1}'):
        tasks[-1].state_file.write_text(text)
        assert chain.run(folder, tasks, found="replace")[0] == 0
        assert chain.started(folder) == ["vote"]
    assert chain.outputs(folder, tasks) == before


STATE_0_1 = """\
{"status": "done", "key": "e9565af34942676b61a09b2349332d197785aefc894e045d8421184e2097191c",
 "inputs": {"list": "6a6272a953f5310aff8a8a389ea781f02dec309e4d9b8c4a05eb160aac048329"},
 "outputs": {"out.csv": "5656fafa00d4f294bcb606cf4f7d4fa877390e46f583e8b3c8744ace104a31d1"},
 "command": ["python3", "test_ensemble_vote.py"], "seconds": 61.5, "exit_code": 0, "error": "", "adopted": false}
"""


def test_a_task_that_version_0_1_finished_is_up_to_date(tmp_path: Path) -> None:
    """`STATE_0_1` was written by that version, for a task of this signature, input and output."""
    (tmp_path / "in.csv").write_text("clip.mp4,0\n")
    (tmp_path / "out.csv").write_text("result\n")
    command = (sys.executable, "-m", "nightcrawler", "vote")
    inputs, outputs = {"list": tmp_path / "in.csv"}, (tmp_path / "out.csv",)
    task = Task("vote", "vote", command, "signature", inputs, outputs, tmp_path)
    task.state_file.parent.mkdir()
    task.state_file.write_text(STATE_0_1)
    check = check_task(task, FileHashes(tmp_path / "hashes.json"))
    assert (check.up_to_date, check.reason) == (True, "")
    assert check.state is not None
    assert check.state.seconds == 61.5
    write_state(task.state_file, check.state)
    assert json.loads(task.state_file.read_text()) == json.loads(STATE_0_1)
    task.state_file.write_text(STATE_0_1.replace('"adopted": false', '"adopted": true'))
    state = read_state(task.state_file)
    assert state is not None
    assert state.imported


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_chain_runs_where_files_cannot_be_locked(
    folder: Path, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once it is said; Lustre without its mount option, NFS without a lock daemon."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert chain.run(folder, chain.small_chain(folder))[0] == 0
    said = [line.getMessage() for line in caplog.records]
    assert f"cannot be locked ({os.strerror(number)})" in said[0]
    assert len(said) == len(set(said)), "each folder is named once"


def test_a_closed_terminal_does_not_end_the_bookkeeping(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed:
        """A terminal that has gone."""

        def isatty(self) -> bool:
            return False

        def write(self, text: str) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        def flush(self) -> None:
            """Flush nothing."""

    monkeypatch.setattr(sys, "stdout", Closed())
    tasks = chain.small_chain(folder)
    assert Runner(tasks, RunOptions(ROOT, folder), None, Screen()).run() == 0
    assert {status_of(task) for task in tasks} == {"done"}


def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    program = (
        "import signal, os; from nightcrawler.utils.signals import signal_handler\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN); seen = []\n"
        "with signal_handler([signal.SIGHUP, signal.SIGTERM], lambda *_: seen.append(_[0])):\n"
        "    os.kill(os.getpid(), signal.SIGHUP); os.kill(os.getpid(), signal.SIGTERM)\n"
        "assert seen == [signal.SIGTERM], seen"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
