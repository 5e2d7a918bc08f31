"""Errors that a user can act on: one line that names the thing, the value and the remedy."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from nightcrawler.utils.versions import DISTRIBUTION

# Status of a video in which nobody was seen long enough.
NO_PERSON = "no person"
# `user:password@` of an address, and passwords among its parameters.
# Passwords may hold any of `/`, `:` and `@`, and the colon of the scheme may be forgotten.
_USER_INFO = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*(?::/{1,2}|//))(?:[^/\s:]*:[^\s]*@|[^/\s]*@)")
_SECRET_FIELD = re.compile(r"(?i)(?<=[?&/;_])((?:password|passwd|pass|pwd|token|secret)=)[^&\s;/]+")


def is_disk_full(error: BaseException) -> bool:
    """Return True for an error that says there is no room (left, or by quota) for a file."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return isinstance(error, OSError) and error.errno in full


def mask_credentials(text: str) -> str:
    """Return a text whose addresses have `***` in the place of users and passwords.

    Example:
        >>> mask_credentials("rtsp://admin:secret@10.0.0.2/stream: lost")
        'rtsp://***@10.0.0.2/stream: lost'
    """
    # Names of files with an @ or = in them stay as they are.
    if ":/" not in text and "//" not in text:
        return text
    return _SECRET_FIELD.sub(r"\1***", _USER_INFO.sub(r"\1***@", text))


def describe_error(error: Exception) -> str:
    """Return kind and first line of an unexpected error.

    Example:
        >>> describe_error(ValueError("no such size"))
        'ValueError: no such size'
    """
    lines = mask_credentials(str(error)).splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0]}"


class UserError(Exception):
    """Error that the user can mend, printed by command lines as one line without a traceback."""


def install_command(extra: str) -> str:
    """Return the command that installs an extra of this project.

    Example:
        >>> install_command("pose")
        "python -m pip install 'nightcrawler-video[pose]'"
    """
    return f"python -m pip install '{DISTRIBUTION}[{extra}]'"


def missing_extra(what: str, extra: str) -> UserError:
    """Return the error of something whose libraries are in an extra that is not installed.

    Args:
        what: that needs it, as the user knows it.
        extra: of `pyproject.toml`.

    Example:
        >>> str(missing_extra("the page", "web"))
        "the page needs the extra web: python -m pip install 'nightcrawler-video[web]'"
    """
    return UserError(f"{what} needs the extra {extra}: {install_command(extra)}")


class ConfigError(UserError):
    """Faults of a configuration, one line each (`file:line: KEY: fault`)."""


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


@contextlib.contextmanager
def single_value_as_error(advice: str) -> Iterator[None]:
    """Raise a `UserError` where BatchNorm is to take the variance of one value in the block.

    Args:
        advice: what to do.

    Raises:
        UserError: if a layer has one value a channel.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"BatchNorm sees one value a channel, which has no variance: {advice}"
        ) from None


class VideoError(UserError):
    """Video that cannot be used.

    Args:
        path: The file.
        cause: The fault, in a few words.
        where: Stage that noticed it (`open`, `limits`, `demux`, `decode`, ...).
    """

    def __init__(self, path: str | Path, cause: str, where: str = "decode") -> None:
        # The parts are kept beside the text: reports count causes and stages.
        # Addresses of cameras hold passwords, and errors are printed and written.
        self.path = mask_credentials(str(path))
        self.cause = mask_credentials(cause)
        super().__init__(f"{self.path}: {self.cause} (while {where})")
        self.where = where

    @property
    def status(self) -> str:
        """Status of the video in results."""
        return f"error: {self.cause} ({self.where})"

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str, str]]:
        """Keep the three fields when the error crosses a process boundary."""
        return (VideoError, (self.path, self.cause, self.where))


@contextlib.contextmanager
def unexpected_as_video_error(path: str | Path, where: str) -> Iterator[None]:
    """Raise a `VideoError` for an unexpected error of the block, which costs that video only.

    Args:
        path: The file that the block is about.
        where: Stage of the work, see `VideoError`.

    Raises:
        VideoError: With kind and first line of the error.
        UserError: As it is: every video would raise it.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise VideoError(path, describe_error(error), where) from error


class NoPersonError(VideoError):
    """Video in which nobody was seen long enough: no fault of the file.

    Args:
        path: The file.
        cause: How long somebody was seen.
    """

    def __init__(self, path: str | Path, cause: str) -> None:
        super().__init__(path, cause, "pose")

    @property
    def status(self) -> str:
        """Status of the video in results."""
        return NO_PERSON

    def __reduce__(self) -> tuple[type[NoPersonError], tuple[str, str]]:  # type: ignore[override]
        """Keep both fields when the error crosses a process boundary."""
        return (NoPersonError, (self.path, self.cause))
