"""A served page with two small untrained models, and ways to ask it."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.data.video.integrity.limits import Limits
from tests import tiny
from tests.export.made import write_checkpoint
from tests.waiting import wait_until

WHY = "needs the extra: pip install 'nightcrawler-video[web]'"
MAX_BYTES = 1 << 20
KEEP_BYTES = 64 << 20


@dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        port: on this machine.
        worker: its worker.
        folder: what it keeps of clips.
    """

    port: int
    worker: Any
    folder: Path

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer; `_` in names of headers stands for `-`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names)
            answer = connection.getresponse()
            return (
                answer.status,
                {key.lower(): value for key, value in answer.getheaders()},
                answer.read(),
            )

    def send(self, name: str, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
        """Status and content of the answer to a clip."""
        status, _, content = self.ask(
            "POST", "/clips", body, x_file_name=urllib.parse.quote(name), **headers
        )
        return status, json.loads(content)


@contextlib.contextmanager
def serving(build: Any, folder: Path, answer_sec: float, **site: Any) -> Iterator[Served]:
    """A server of what `build` makes, in a thread."""
    import uvicorn

    from nightcrawler.utils.clip_worker import Worker
    from nightcrawler.web.app import make_app
    from nightcrawler.web.texts import Site

    worker = Worker(build, answer_sec, start_sec=120)
    worker.start()
    told = {
        "models": ["m"],
        "class_names": ["Run"],
        "enhancement": "gamma 0.25",
        "labels": "label-free",
        "worth": "",
        "predictor": {},
        "takes_labels": False,
    }
    told |= {key: value for key, value in worker.about.items() if key in told}
    limits = {
        "max_bytes": MAX_BYTES,
        "max_sec": 20.0,
        "upload_sec": 2.0,
        "answer_sec": answer_sec,
        "keep_bytes": KEEP_BYTES,
    }
    app = make_app(worker, folder, Site(**(told | limits | site)))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started, timeout=60)
    try:
        yield Served(listening.getsockname()[1], worker, folder)
    finally:
        server.should_exit = True
        worker.stop()
        thread.join(20)


@pytest.fixture(scope="session")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Two models that know the same classes."""
    folder = tmp_path_factory.mktemp("experiments")
    for name, model in (("first", "uniformer_b32_k600"), ("second", "sf32_k700")):
        write_checkpoint(folder / name, model)
    return folder / "first", folder / "second"


@pytest.fixture(scope="session")
def served(
    experiments: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A page with both models; a timeline has windows of 0.4 s."""
    for name in ("starlette", "uvicorn"):
        pytest.importorskip(name, reason=WHY)
    from nightcrawler.web.inference import InferenceOptions, build_inference

    limits = Limits(file_bytes=MAX_BYTES, memory_bytes=1 << 28)
    options = InferenceOptions(
        experiments, None, None, Path(), True, Path(), 0.4, 0.2, 20.0, limits, 1
    )
    with serving(
        functools.partial(build_inference, options), tmp_path_factory.mktemp("kept"), 100
    ) as running:
        yield running


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dark clip of a second, 48x40 pixels."""
    path = tmp_path_factory.mktemp("clips") / "night walk.mp4"
    tiny.write_video(path, label=3, seed=5, dark=True)
    return path
