"""The worker answers, is replaced when it hangs or dies, and never takes its owner with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightcrawler.utils.clip_worker import ClipError, StorageFullError, Worker, WorkerError
from nightcrawler.utils.errors import UserError
from tests import answers
from tests.paths import ROOT
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker(answers.build, answer_sec=2.0, start_sec=60)
    worker.start()
    yield worker
    worker.stop()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def ask(worker: Worker, name: str) -> dict[str, object]:
    return worker.ask({"name": name})


def test_it_answers_in_another_process(worker: Worker) -> None:
    assert worker.about == answers.ABOUT
    found = ask(worker, "a")
    assert found["pid"] == worker.pid != os.getpid()
    assert found["name"] == "a"
    assert found["took_sec"] >= 0


def test_a_bad_clip_is_refused_and_the_process_stays(worker: Worker) -> None:
    pid = worker.pid
    with pytest.raises(ClipError, match=r"^cut short \(while decode\)$"):
        ask(worker, "bad")
    assert ask(worker, "a")["pid"] == pid


def test_a_clip_with_an_unexpected_error_is_refused_and_the_process_stays(worker: Worker) -> None:
    pid = worker.pid
    with pytest.raises(ClipError, match=r"^an unexpected ZeroDivisionError; its log says more$"):
        ask(worker, "bug")
    assert ask(worker, "a")["pid"] == pid


def test_a_full_disk_is_told_and_the_process_stays(worker: Worker) -> None:
    pid = worker.pid
    with pytest.raises(StorageFullError, match="disk for temporary files is full") as caught:
        ask(worker, "full")
    assert "/secret" not in str(caught.value)
    assert ask(worker, "a")["pid"] == pid


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hang", "took more than 2 s and was given up"),
        ("crash", r"ended the worker \(signal SIGSEGV\)"),
        ("huge", r"ended the worker \("),
    ],
)
def test_a_clip_that_hangs_or_kills_it_fails_alone(worker: Worker, name: str, text: str) -> None:
    before = worker.pid
    start = time.monotonic()
    with pytest.raises(WorkerError, match=text):
        ask(worker, name)
    assert time.monotonic() - start < 20
    assert not alive(before)
    found = ask(worker, "a")
    assert found["pid"] == worker.pid != before


def test_a_long_clip_that_goes_on_is_waited_for(worker: Worker) -> None:
    start = time.monotonic()
    assert ask(worker, "long")["name"] == "long"
    assert time.monotonic() - start > worker.answer_sec


def test_killed_from_outside_between_clips_it_comes_back(worker: Worker) -> None:
    os.kill(worker.pid, 9)
    with pytest.raises(WorkerError, match="SIGKILL"):
        ask(worker, "a")
    assert ask(worker, "a")["pid"] == worker.pid


def test_questions_of_several_threads_do_not_mix(worker: Worker) -> None:
    found: dict[str, object] = {}
    threads = [
        threading.Thread(target=lambda name=name: found.update({name: ask(worker, name)["name"]}))
        for name in "pqrst"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {name: name for name in "pqrst"}


def test_what_cannot_be_built_says_why() -> None:
    worker = Worker(answers.build_nothing, 1.0)
    with pytest.raises(UserError, match=r"^best.pyth: no such checkpoint$"):
        worker.start()
    worker.stop()


def test_a_library_that_cannot_be_loaded_is_one_line_with_the_reason() -> None:
    worker = Worker(answers.build_broken, 1.0)
    with pytest.raises(UserError, match=r"^cannot start: OSError: libGLESv2\.so\.2"):
        worker.start()
    worker.stop()


def test_a_worker_may_have_a_worker_which_ends_with_it() -> None:
    worker = Worker(answers.build_nested, 20.0)
    worker.start()
    inner = worker.about["inner"]
    assert worker.ask({"name": "a"})["pid"] == inner != worker.pid
    worker.stop()
    wait_until(lambda: not alive(inner), timeout=30)


SCRIPT = """
from nightcrawler.utils.clip_worker import Worker
from tests import answers
from tests.paths import ROOT

worker = Worker(answers.build, 20.0)
worker.start()
print(worker.ask({"name": "a"})["name"], worker.pid)
"""


def test_a_script_without_a_guard_gets_its_answer_and_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    name, pid = done.stdout.split()
    assert (done.returncode, name, done.stderr) == (0, "a", "")
    assert not alive(int(pid))


def test_a_build_that_hangs_is_given_up() -> None:
    worker = Worker(answers.build_hanging, 1.0, start_sec=1.0)
    with pytest.raises(WorkerError, match="did not start"):
        worker.start()
    pid = worker.pid
    worker.stop()
    assert not alive(pid)


def test_stopped_in_the_middle_of_a_question_it_is_not_started_again(tmp_path: Path) -> None:
    worker = Worker(answers.build, answer_sec=60, start_sec=60)
    worker.start()
    found: list[BaseException] = []

    def hang() -> None:
        with pytest.raises(WorkerError) as caught:
            ask(worker, str(tmp_path / "hang"))
        found.append(caught.value)

    thread = threading.Thread(target=hang)
    thread.start()
    wait_until((tmp_path / "hang").exists, timeout=60)
    worker.stop()
    thread.join(20)
    assert len(found) == 1
    assert not alive(worker.pid)


def test_after_an_interruption_the_next_question_is_answered(tmp_path: Path) -> None:
    worker = Worker(answers.build, answer_sec=60, start_sec=60)
    worker.start()
    try:
        mark = tmp_path / "hang"
        failed: list[BaseException] = []

        def ask_and_keep() -> None:
            try:
                ask(worker, str(mark))
            except WorkerError as error:
                failed.append(error)

        asking = threading.Thread(target=ask_and_keep)
        asking.start()
        wait_until(mark.exists)
        worker.interrupt()
        asking.join(60)
        assert len(failed) == 1
        assert ask(worker, "a")["name"] == "a"
        # Nothing was asked: the process is fresh all the same.
        before = worker.pid
        worker.interrupt()
        assert ask(worker, "b")["pid"] != before
    finally:
        worker.stop()
