"""Errors that a user can act on: one line that names the thing, the value and the remedy."""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """Error that the user can mend, printed by command lines as one line without a traceback."""


class ConfigError(UserError):
    """Faults of a configuration, one line each (`file:line: KEY: fault`)."""


class VideoError(UserError):
    """Video that cannot be used.

    Args:
        path: The file.
        cause: The fault, in a few words.
        where: Stage that noticed it (`open`, `limits`, `demux`, `decode`, ...).
    """

    def __init__(self, path: str | Path, cause: str, where: str = "decode") -> None:
        # The parts are kept beside the text: reports count causes and stages.
        super().__init__(f"{path}: {cause} (while {where})")
        self.path = str(path)
        self.cause = cause
        self.where = where

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str, str]]:
        """Keep the three fields when the error crosses a process boundary."""
        return (VideoError, (self.path, self.cause, self.where))
