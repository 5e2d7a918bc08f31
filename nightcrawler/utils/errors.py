"""Errors a person can act on: one line that names the thing, the value and what to do."""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """Something the user can mend. Command lines print it as one line, without a traceback."""


class ConfigError(UserError):
    """One or several faults in a configuration, a line each (`file:line: KEY: what is wrong`)."""


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
