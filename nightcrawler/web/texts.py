"""Texts and files of the page."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2

MEDIA_TYPES = {
    "style.css": "text/css",
    "page.js": "text/javascript",
    "queue.js": "text/javascript",
    "result.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
# Clips on the start page: file to what happens in it. They are test clips 25, 30 and 34 of
# `tools/make_synthetic.py --seed 7 --size 240x320 --test 5` (its other counts 1), of which the
# models inside the package are sure and right; the last is these three, repeated for 5 s each.
EXAMPLES = {
    "jump.mp4": "a figure that jumps",
    "wave.mp4": "a figure that waves",
    "walk.mp4": "a figure that walks",
    "scenes.mp4": "one that walks, waves and jumps, 15 s",
}


@dataclass(frozen=True)
class Site:
    """Texts and limits of the page.

    Attributes:
        models: names of the models.
        class_names: names of the K classes.
        enhancement: enhancement of clips, for people.
        labels: label use of the models: `label-free` or `oracle`.
        worth: how far these models are right, empty where it is not known.
        predictor: plain values that identify the models, for downloads.
        max_bytes: largest clip, in bytes.
        max_sec: longest clip, in seconds.
        upload_sec: seconds that an upload may take.
        answer_sec: seconds that inference may take.
        keep_bytes: room for videos of clips, in bytes.
        takes_labels: a clip may come with classes of its own.
    """

    models: tuple[str, ...]
    class_names: tuple[str, ...]
    enhancement: str
    labels: str
    worth: str
    predictor: dict[str, Any]
    max_bytes: int
    max_sec: float
    upload_sec: float
    answer_sec: float
    keep_bytes: int
    takes_labels: bool = False


def resource(folder: str, name: str) -> bytes:
    """Return a file of the page.

    Args:
        folder: `static` or `examples`.
        name: of the file.
    """
    return resources.files(__package__).joinpath(folder, name).read_bytes()


def render(name: str, **values: Any) -> str:
    """Return a page.

    Args:
        name: template in `static`.
        **values: values that it shows.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(resource("static", name).decode()).render(**values)
