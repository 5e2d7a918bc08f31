"""A worker whose answers are whole, and that fails as `tests.answers` does: its process id is the model's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nightcrawler.predict.video_result import VideoResult, to_plain
from tests import answers


def answer(question: dict[str, Any]) -> dict[str, Any]:
    said = answers.answer(question)
    if question["do"] != "predict":
        return {"preview_sec": 3.0}
    folder = Path(question["folder"])
    for name in ("before.mp4", "after.mp4"):
        (folder / name).write_bytes(bytes(1000))
    result = VideoResult(question["name"], -1, "ok", ("Run",), 0, (1.0,), (0.0,), 1, (0,))
    return {
        "result": to_plain(result),
        "models": [{"name": str(said["pid"]), "class": "Run", "agrees": True}],
        "by_time": False,
        "seconds": 3.0,
        "num_frames": 30,
        "fps": 10.0,
        "size": [48, 40],
        "preview_sec": 3.0,
        "brightness": [9.0, 99.0],
        "took_sec": 0.1,
    }


def build() -> tuple[Callable[..., Any], dict[str, Any]]:
    return answer, answers.ABOUT
