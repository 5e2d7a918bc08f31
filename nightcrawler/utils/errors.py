"""Errors a person can act on: one line that names the thing, the value and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path


class UserError(Exception):
    """Something the user can mend. Command lines print it as one line, without a traceback."""


class ConfigError(UserError):
    """One or several faults in a configuration, a line each (`file:line: KEY: what is wrong`)."""


class ArgumentError(UserError):
    """An argument that a component cannot be built with.

    Components name their arguments; `build_*` functions add the configuration keys behind them.

    Args:
        message: plain sentence that names the argument and its value.
        arguments: names of the arguments, for the keys behind them.
    """

    def __init__(self, message: str, *arguments: str) -> None:
        super().__init__(message)
        self.arguments = arguments


@contextlib.contextmanager
def argument_keys(keys: Mapping[str, str]) -> Iterator[None]:
    """Add the configuration keys behind its arguments to an `ArgumentError`.

    Args:
        keys: argument to key, such as `{"num_frames": "DATA.NUM_FRAMES"}`.

    Raises:
        UserError: for an `ArgumentError` in the block, with the keys in brackets.
    """
    try:
        yield
    except ArgumentError as error:
        known = [keys[argument] for argument in error.arguments if argument in keys]
        if not known:
            raise
        raise UserError(f"{error} ({', '.join(known)})") from None


class VideoError(UserError):
    """A video that cannot be used.

    Args:
        path: the file.
        cause: what is wrong with it, in a few words.
        where: the stage that noticed it (`open`, `limits`, `demux`, `decode`, ...).
    """

    def __init__(self, path: str | Path, cause: str, where: str = "decode") -> None:
        super().__init__(f"{path}: {cause} (while {where})")
        self.path = str(path)
        self.cause = cause
        self.where = where

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str, str]]:
        """Keep the three fields when the error crosses a process boundary."""
        return (VideoError, (self.path, self.cause, self.where))
