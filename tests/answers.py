"""What test workers are built of: functions of a module, so that they reach the worker's process."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from nightcrawler.utils.clip_worker import Worker, report_alive
from nightcrawler.utils.errors import UserError, VideoError

ABOUT = {"models": ["tested"]}


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """By the clip's name: hang, die, refuse, or say who answers."""
    name = question["name"]
    if "hang" in name:
        if os.path.isabs(name):  # a mark for the test that the question has arrived
            with open(name, "w"):
                pass
        time.sleep(600)
    if "long" in name:
        for _ in range(4):
            time.sleep(0.8)
            report_alive()
    if "crash" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "bug" in name:
        raise ZeroDivisionError
    if "full" in name:
        raise OSError(errno.ENOSPC, "No space left on device", "/secret/after.mp4")
    if "huge" in name:
        return {"text": "x" * (5 << 20)}
    if "bad" in name:
        raise VideoError(name, "cut short", "decode")
    return {"pid": os.getpid(), "name": name}


def build() -> tuple[Callable[..., Any], dict[str, Any]]:
    return answer, ABOUT


def build_nothing() -> tuple[Callable[..., Any], dict[str, Any]]:
    raise UserError("best.pyth: no such checkpoint")


def build_hanging() -> tuple[Callable[..., Any], dict[str, Any]]:
    time.sleep(600)
    raise AssertionError


def build_broken() -> tuple[Callable[..., Any], dict[str, Any]]:
    raise OSError("libGLESv2.so.2: cannot open shared object file")


def build_nested() -> tuple[Callable[..., Any], dict[str, Any]]:
    """A worker that has a worker of its own, as a page's has one that finds poses."""
    inner = Worker(build, 10.0)
    inner.start()
    return inner.ask, {"inner": inner.pid}
