"""A mapping of bounded size that forgets its least recently used entries."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

# One lock for all mappings: with a lock of its own, a mapping could not be pickled, as data sets
# are for spawned workers.
_lock = threading.Lock()
# A process that forks while another thread holds the lock would leave it locked in the child for
# ever.
os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
)


class LruMapping(Generic[Key, Value]):
    """Mapping of values up to a total size, which drops the least recently used ones.

    Args:
        max_size: largest sum of the sizes of all values, in any unit.
    """

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._used = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._entries)

    def get(self, key: Key) -> Value | None:
        """Return a value and mark it as the latest used, or return `None` if it is absent."""
        with _lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: Key, value: Value, size: int = 1) -> None:
        """Store a value in place of the one before.

        Args:
            key: Key of the value.
            value: Value, which is not kept if it is larger than the bound.
            size: Its size, in the unit of the bound.
        """
        with _lock:
            self._drop(key)
            if size > self.max_size:
                return
            self._entries[key] = (value, size)
            self._used += size
            while self._used > self.max_size:
                self._drop(next(iter(self._entries)))

    def drop(self, key: Key) -> None:
        """Remove a value, if it is present."""
        with _lock:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        if key in self._entries:
            _, size = self._entries.pop(key)
            self._used -= size
