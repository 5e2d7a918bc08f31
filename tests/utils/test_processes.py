"""Signals, file locks and the end of child processes."""

import errno
import io
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nightcrawler.utils.locks import take_inheritable_lock, take_record_lock
from nightcrawler.utils.process import follow_parent
from nightcrawler.utils.progress import progress
from nightcrawler.utils.signals import signal_handler
from tests.paths import ROOT

DEADLINE_SEC = 60.0


def test_a_signal_handler_lasts_as_long_as_its_block() -> None:
    seen: list[int] = []
    before = signal.getsignal(signal.SIGUSR1)
    with signal_handler([signal.SIGUSR1, signal.SIGUSR2], lambda number, _: seen.append(number)):
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR2)
    assert seen == [signal.SIGUSR1, signal.SIGUSR2]
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_signal_handler_is_restored_after_an_error() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(ZeroDivisionError), signal_handler([signal.SIGUSR1], lambda *_: None):
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_signal_handler_leaves_other_threads_alone() -> None:
    reached: list[bool] = []

    def block() -> None:
        with signal_handler([signal.SIGUSR1], lambda *_: None):
            reached.append(signal.getsignal(signal.SIGUSR1) == before)

    before = signal.getsignal(signal.SIGUSR1)
    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert reached == [True]


def _holder(program: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that has taken a lock, said so, and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_record_lock_is_held_by_one_process(tmp_path: Path) -> None:
    program = """
import sys
from nightcrawler.utils.locks import take_record_lock
file = open(sys.argv[1], "a+")
assert take_record_lock(file, wait=True)
print("held", flush=True)
sys.stdin.read()
"""
    path = tmp_path / "lock"
    holder = _holder(program, path)
    with open(path, "a+") as file:
        assert not take_record_lock(file, wait=False)
        holder.kill()
        holder.communicate()
        assert take_record_lock(file, wait=False)


def test_an_inheritable_lock_outlives_the_process_that_took_it(tmp_path: Path) -> None:
    program = """
import subprocess, sys, os
from pathlib import Path
from nightcrawler.utils.locks import take_inheritable_lock
lock = take_inheritable_lock(Path(sys.argv[1]))
child = [sys.executable, "-c", "import sys; print('held', flush=True); sys.stdin.read()"]
subprocess.Popen(child, pass_fds=(lock,))
os._exit(0)
"""
    path = tmp_path / "locks" / "a.lock"
    holder = _holder(program, path)
    holder.wait()
    assert take_inheritable_lock(path) is None
    holder.communicate()  # closes the grandchild's input, at which it ends
    deadline = time.monotonic() + DEADLINE_SEC
    while (descriptor := take_inheritable_lock(path)) is None:
        assert time.monotonic() < deadline
    os.close(descriptor)


def _wait_end_of_file(descriptor: int) -> None:
    readable, _, _ = select.select([descriptor], [], [], DEADLINE_SEC)
    assert readable, "the child is still alive"
    assert os.read(descriptor, 1) == b""


def test_a_command_ends_when_its_parent_is_killed() -> None:
    program = """
import os, subprocess, sys
from nightcrawler.utils.process import terminate_with_parent
parent = os.getpid()
child = [sys.executable, "-c", "import sys, time; print('held', flush=True); time.sleep(600)"]
subprocess.Popen(child, preexec_fn=lambda: terminate_with_parent(parent)).wait()
"""
    parent = _holder(program)
    assert parent.stdout is not None
    parent.kill()
    _wait_end_of_file(parent.stdout.fileno())  # the child held the pipe's other end
    parent.communicate()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_multiprocessing_child_ends_when_its_parent_is_killed(
    method: str, tmp_path: Path
) -> None:
    program = f"""
import multiprocessing, time
from nightcrawler.utils.process import follow_parent

def work():
    follow_parent()
    print("held", flush=True)
    time.sleep(600)

if __name__ == "__main__":
    process = multiprocessing.get_context({method!r}).Process(target=work)
    process.start()
    process.join()
"""
    script = tmp_path / "parent.py"
    script.write_text(program)
    parent = _holder("import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')", script)
    assert parent.stdout is not None
    parent.kill()
    _wait_end_of_file(parent.stdout.fileno())
    parent.communicate()


def test_a_process_without_a_parent_follows_nobody() -> None:
    assert multiprocessing.parent_process() is None
    before = signal.getsignal(signal.SIGINT)
    follow_parent()
    assert signal.getsignal(signal.SIGINT) == before


class ClosedTerminal(io.StringIO):
    """A terminal that has gone."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("terminal", [True, False])
def test_work_goes_on_when_its_terminal_is_closed(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    stream = ClosedTerminal()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress(range(3), desc="val", every=1)) == [0, 1, 2]
