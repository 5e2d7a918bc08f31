"""One process that does the dangerous work, decoding strangers' files; it may hang or die, its owner goes on.

Questions and answers are JSON over a pipe: nothing that the process says is ever unpickled.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from nightcrawler.utils.errors import UserError, VideoError
from nightcrawler.utils.logging import get_logger
from nightcrawler.utils.process import follow_parent

logger = get_logger(__name__)

MOST_ANSWER_BYTES = 4 << 20
END_SEC = 5.0

Question = dict[str, Any]
Answer = dict[str, Any]
# Makes what answers, and says what it is, as plain values.
Build = Callable[[], tuple[Callable[[Question], Answer], dict[str, Any]]]


class Refused(UserError):
    """The question was understood, and this clip cannot be used."""


class Failed(UserError):
    """The process hung or died over a question; another one takes its place."""


class Worker:
    """The process, and the way to ask it. Questions come one after the other, from any thread.

    Args:
        build: makes what answers, in the process; it is sent there, so it is a function of a module.
        answer_sec: after so many seconds a question is given up and the process replaced.
        start_sec: the same for `build`.

    Attributes:
        about: what `build` says of what it made, once started.
    """

    def __init__(self, build: Build, answer_sec: float, start_sec: float = 300.0) -> None:
        self.build, self.answer_sec, self.start_sec = build, answer_sec, start_sec
        self._context = multiprocessing.get_context("spawn")
        self._lock = threading.Lock()
        self._is_ready = self._is_stopped = False
        self.about: dict[str, Any] = {}

    def start(self) -> None:
        """Start the process and wait until it can answer.

        Raises:
            UserError: if it cannot be built.
        """
        with self._lock:
            self._spawn()
            self._wait_ready()

    def ask(self, question: Question) -> Answer:
        """The answer.

        Raises:
            Refused: if the clip cannot be used.
            Failed: if the process hung or died over it, or could not be started again.
        """
        with self._lock:
            self._wait_ready()
            return self._ask(question)

    def stop(self) -> None:
        """End the process, whatever it does; an open question fails."""
        self._is_stopped = True
        self._kill()

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid

    def _ask(self, question: Question) -> Answer:
        try:
            self._pipe.send_bytes(json.dumps(question).encode())
            kind, content = self._receive(self.answer_sec)
        except TimeoutError:
            self._replace()
            why = f"this clip took more than {self.answer_sec:g} s and was given up; the next one will be looked at"
            raise Failed(why) from None
        except (EOFError, OSError, ValueError) as error:
            ended = self._ended()
            self._replace()
            logger.warning("the worker ended over a clip: %s (%s)", ended, type(error).__name__)
            raise Failed(
                f"reading this clip ended the worker ({ended}); the next one will be looked at"
            ) from None
        if kind != "answer":
            raise Refused(content)
        return content

    def _receive(self, seconds: float) -> tuple[str, Any]:
        if not self._pipe.poll(seconds):
            raise TimeoutError
        kind, content = json.loads(self._pipe.recv_bytes(MOST_ANSWER_BYTES))
        return kind, content

    def _spawn(self) -> None:
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(target=_work, args=(self.build, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._is_ready = False

    def _wait_ready(self) -> None:
        if self._is_ready:
            return
        try:
            kind, content = self._receive(self.start_sec)
        except (TimeoutError, EOFError, OSError, ValueError):
            ended = self._ended()
            self._replace()
            raise Failed(f"the worker did not start ({ended}); try again") from None
        if kind != "ready":
            raise UserError(content)
        self.about, self._is_ready = content, True

    def _ended(self) -> str:
        self._process.join(END_SEC)
        code = self._process.exitcode
        if code is None:
            return "it does not answer"
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _replace(self) -> None:
        self._kill()
        self._pipe.close()
        if not self._is_stopped:
            self._spawn()

    def _kill(self) -> None:
        # At once: a decoder that hangs does not listen, and the process has nothing to put in order.
        self._process.kill()
        self._process.join(END_SEC)


def _work(build: Build, pipe: Connection) -> None:
    """The process: build, then answer until the pipe closes."""
    follow_parent()
    try:
        answer, about = build()
    except UserError as error:
        _send(pipe, "failed", str(error))
        return
    _send(pipe, "ready", about)
    with contextlib.suppress(EOFError, OSError):
        while True:
            question = json.loads(pipe.recv_bytes())
            start = time.monotonic()
            try:
                content = answer(question)
            except VideoError as error:
                _send(pipe, "refused", f"{error.cause} (while {error.where})")
            except UserError as error:
                _send(pipe, "refused", str(error))
            else:
                _send(pipe, "answer", {**content, "took_sec": round(time.monotonic() - start, 3)})


def _send(pipe: Connection, kind: str, content: Any) -> None:
    pipe.send_bytes(json.dumps([kind, content]).encode())
