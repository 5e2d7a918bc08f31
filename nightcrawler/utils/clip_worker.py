"""Worker process that decodes clips of strangers. It may hang or die without harm.

Questions and answers are JSON over a pipe, so nothing from the worker is ever unpickled.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import multiprocessing
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from nightcrawler.utils.errors import UserError, VideoError, describe_error, is_disk_full
from nightcrawler.utils.logging import get_logger
from nightcrawler.utils.process import follow_parent

logger = get_logger(__name__)

# Far more than an answer needs.
MAX_ANSWER_BYTES = 4 << 20
EXIT_WAIT_SEC = 5.0
ALIVE = "alive"
FULL = "the disk for temporary files is full: free some space, then send the clip again"

Question = dict[str, Any]
Answer = dict[str, Any]
# In a worker's process: the pipe that it answers through.
_pipe_to_owner: list[Connection] = []
# Builds the function that answers questions, and plain values that describe it.
Build = Callable[[], tuple[Callable[[Question], Answer], dict[str, Any]]]


def report_alive() -> None:
    """Tell the owner of this worker that the question in hand goes on, as between parts of a video.

    Does nothing outside of a worker's process.
    """
    for pipe in _pipe_to_owner:
        _send(pipe, ALIVE, None)


class ClipError(UserError):
    """A clip that cannot be used. The worker goes on."""


class StorageFullError(UserError):
    """No room for the files of a clip. The worker goes on."""


class WorkerError(UserError):
    """A worker that hung or died over a clip, and was replaced."""


class Worker:
    """A process that answers questions one after the other, from any thread.

    Args:
        build: builds the answering function inside the process. It is pickled, so it must be a
            function of a module.
        answer_sec: seconds per question, counted anew by `report_alive`. After that the process is
            replaced.
        start_sec: seconds for `build`.

    Attributes:
        about: plain values from `build`, once started.
    """

    def __init__(self, build: Build, answer_sec: float, start_sec: float = 300.0) -> None:
        self.build = build
        self.answer_sec = answer_sec
        self.start_sec = start_sec
        self.about: dict[str, Any] = {}
        # Forking a process with threads, as a server has, may deadlock: spawn a fresh one.
        self._context = multiprocessing.get_context("spawn")
        self._lock = threading.Lock()
        self._process: BaseProcess | None = None
        self._is_ready = False
        self._is_stopped = False

    def start(self) -> None:
        """Start the process, unless it runs, and wait until it is ready.

        Raises:
            UserError: if `build` fails.
        """
        with self._lock:
            self._wait_ready()

    def ask(self, question: Question) -> Answer:
        """Return the answer to a question. The process is started if need be.

        Args:
            question: plain values.

        Raises:
            ClipError: if the clip cannot be used.
            StorageFullError: if there is no room for its previews.
            WorkerError: if the process hung or died, or did not start again.
        """
        with self._lock:
            self._wait_ready()
            return self._ask(question)

    def interrupt(self) -> None:
        """Give an open question up: it fails. The next one is answered by a fresh process."""
        self._kill()
        with self._lock:
            # Who asked has replaced the process already, if anybody did.
            if self._process is not None and not self._process.is_alive():
                self._replace()

    def stop(self) -> None:
        """End the process at once, for good. An open question fails."""
        # Without the lock, which an open question holds until it is answered.
        self._is_stopped = True
        self._kill()

    @property
    def pid(self) -> int | None:
        """Process id of the worker, `None` before it is started."""
        return None if self._process is None else self._process.pid

    def _ask(self, question: Question) -> Answer:
        try:
            self._pipe.send_bytes(json.dumps(question).encode())
            kind, content = self._receive(self.answer_sec)
            while kind == ALIVE:
                kind, content = self._receive(self.answer_sec)
        except TimeoutError:
            self._replace()
            raise WorkerError(
                f"this clip took more than {self.answer_sec:g} s and was given up"
            ) from None
        except (EOFError, OSError, ValueError) as error:
            reason = self._exit_reason()
            self._replace()
            logger.warning("the worker ended over a clip: %s (%s)", reason, type(error).__name__)
            raise WorkerError(f"reading this clip ended the worker ({reason})") from None
        if kind == "full":
            raise StorageFullError(content)
        if kind != "answer":
            raise ClipError(content)
        return content

    def _receive(self, seconds: float) -> tuple[str, Any]:
        """Return the kind and the content of the next message.

        Raises:
            TimeoutError: if no message comes in time.
            ValueError: if the message is not JSON of this form.
        """
        if not self._pipe.poll(seconds):
            raise TimeoutError
        # A worker taken over by a bad clip could send anything: bound it, and parse plain values.
        kind, content = json.loads(self._pipe.recv_bytes(MAX_ANSWER_BYTES))
        return kind, content

    def _spawn(self) -> None:
        self._pipe, theirs = self._context.Pipe()
        # Not a daemon: those may have no processes of their own, as estimators of poses are.
        self._process = self._context.Process(target=_work, args=(self.build, theirs))
        with _without_main():
            self._process.start()
        # The program would wait for the process at its end.
        atexit.register(_kill_if_there, weakref.ref(self))
        # With our copy open, the pipe would not end with the process.
        theirs.close()
        self._is_ready = False

    def _wait_ready(self) -> None:
        if self._is_ready:
            return
        if self._process is None:
            if self._is_stopped:
                raise WorkerError("the worker was stopped")
            self._spawn()
        try:
            kind, content = self._receive(self.start_sec)
        except (TimeoutError, EOFError, OSError, ValueError):
            reason = self._exit_reason()
            self._replace()
            raise WorkerError(f"the worker did not start ({reason}); try again") from None
        if kind != "ready":
            raise UserError(content)
        self.about = content
        self._is_ready = True

    def _exit_reason(self) -> str:
        """Return the signal or exit code of the process for people."""
        assert self._process is not None
        self._process.join(EXIT_WAIT_SEC)
        code = self._process.exitcode
        if code is None:
            return "it does not answer"
        if code < 0:
            return f"signal {signal.Signals(-code).name}"
        return f"exit code {code}"

    def _replace(self) -> None:
        self._kill()
        self._pipe.close()
        if not self._is_stopped:
            self._spawn()

    def _kill(self) -> None:
        if self._process is None or self._process.pid is None:
            return
        # SIGKILL: a decoder that hangs ignores other signals, and the process has nothing to save.
        self._process.kill()
        self._process.join(EXIT_WAIT_SEC)


def _kill_if_there(worker: weakref.ref[Worker]) -> None:
    """End the process of a worker that is still there."""
    known = worker()
    if known is not None:
        known.stop()


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Start processes that do not run the program's main module again.

    They need nothing of it, and a script without a guard would start itself for ever.
    """
    main = sys.modules["__main__"]
    kept = {name: getattr(main, name) for name in ("__spec__", "__file__") if hasattr(main, name)}
    for name in kept:
        setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(main, name, value)


def _work(build: Build, pipe: Connection) -> None:
    """Run the process: build, then answer until the pipe closes."""
    follow_parent()
    try:
        answer, about = build()
    except UserError as error:
        _send(pipe, "failed", str(error))
        return
    except Exception as error:
        # Such as a library of an estimator that cannot be loaded.
        _send(pipe, "failed", f"cannot start: {describe_error(error)}")
        return
    _send(pipe, "ready", about)
    _pipe_to_owner.append(pipe)
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send_bytes(_answer_to(json.loads(pipe.recv_bytes()), answer))


def _answer_to(question: Question, answer: Callable[[Question], Answer]) -> bytes:
    """Return the message for a question. A clip that raises is refused, whatever it raises."""
    start = time.monotonic()
    try:
        content = answer(question)
        took_sec = round(time.monotonic() - start, 3)
        return _message("answer", {**content, "took_sec": took_sec})
    except VideoError as error:
        # Without the path, which is none of the visitor's business.
        return _message("refused", f"{error.cause} (while {error.where})")
    except UserError as error:
        return _message("refused", str(error))
    except Exception as error:
        # Models take seconds to load: one odd clip must not keep the next visitor waiting.
        if is_disk_full(error):
            return _message("full", FULL)
        logger.exception("a clip was refused")
        # Not the error's text, which may hold paths.
        return _message("refused", f"an unexpected {type(error).__name__}; its log says more")


def _message(kind: str, content: Any) -> bytes:
    return json.dumps([kind, content]).encode()


def _send(pipe: Connection, kind: str, content: Any) -> None:
    pipe.send_bytes(_message(kind, content))
