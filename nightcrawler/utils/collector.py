"""Imports without garbage collection: modules live to the end of the process anyway."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Pause Python's garbage collector for imports, and keep it from the imported objects later.

    Importing torch makes half a million objects. The collector looks at them again and again on the
    way, and once more when the process ends, which together takes a third of the import's time.
    Only for processes of our own, such as commands: nothing that exists at the end of the block is
    ever searched for cycles.

    Example:
        >>> with collector_paused():
        ...     import torch
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
