"""Child processes that end when their parent does, even if it was killed."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1
# Loaded on import: between fork and exec only calls that allocate nothing are safe.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def terminate_with_parent(parent: int) -> None:
    """Ask the kernel to send this process SIGTERM when its parent dies (Linux only).

    Use it as the `preexec_fn` of a command: the request survives `exec`. See prctl(2),
    PR_SET_PDEATHSIG.

    Args:
        parent: Process id of the parent, read before the fork. This process exits at once if that
            parent has died already, since the kernel then sends nothing.
    """
    if _LIBC is None:
        return
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


def is_alive(pid: int) -> bool:
    """Return whether a process of this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Of another user.
        return True
    return True


def follow_parent() -> None:
    """Ignore Ctrl-C in a `multiprocessing` child, and exit as soon as its parent has ended.

    Ctrl-C reaches the whole process group: the parent alone decides how to end. Exiting does not
    wait for the work in hand, which may hang. Does nothing in a process that `multiprocessing` did
    not start.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def exit_after_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=exit_after_parent, name="follow-parent", daemon=True).start()
