"""The page: whole in itself, names from outside stay text, pictures are pictures."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nightcrawler.prepare.measure import Measurement, measure
from nightcrawler.prepare.page import build_page
from nightcrawler.prepare.sources import AuditSource
from tests.conftest import MakeClip

EVIL = "<script>alert('1')</script>&\"$x_{1}$.mp4"


class Reader(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def images(self) -> list[Image.Image]:
        uris = [
            value.removeprefix("data:image/png;base64,")
            for name, value in self.attributes
            if name == "src"
        ]
        return [Image.open(io.BytesIO(base64.b64decode(uri, validate=True))) for uri in uris]


@pytest.fixture(scope="module")
def page(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two sources with a copy, a bad file, and names that would like to be markup."""
    folder = tmp_path_factory.mktemp("page")
    clips = [make_clip(folder / f"{seed}.mp4", 6, seed=seed) for seed in range(3)]
    evil = make_clip(folder / "d.mp4", 6, seed=1).rename(folder / EVIL.replace("/", "_"))
    (folder / "bad.mp4").write_text(EVIL)
    first = AuditSource(EVIL, tuple(map(str, [*clips, folder / "bad.mp4"])))
    second = AuditSource("second", (str(clips[0]), str(evil)))
    return build_page(
        [first, second], [measure(path) for path in dict.fromkeys(first.paths + second.paths)]
    )


def test_names_are_shown_as_text(page: str) -> None:
    found = Reader(page)
    assert "script" not in found.tags
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert EVIL in found.text
    assert EVIL.replace("/", "_") in found.text


def test_the_page_needs_nothing_from_outside_and_fits_a_phone(page: str) -> None:
    assert not re.search(r"(https?:)?//\w", re.sub(r"base64,[^\"]+", "", page))
    assert not {"link", "iframe", "object"} & set(Reader(page).tags)
    sources = [value for name, value in Reader(page).attributes if name in ("src", "href")]
    assert all(value.startswith("data:image/png;base64,") for value in sources)
    assert '<meta name="viewport" content="width=device-width' in page
    assert "default-src 'none'" in page


def test_figures_and_tables_are_there(page: str) -> None:
    found = Reader(page)
    assert "5 files, 1 bad, 1 groups of files with equal content" in " ".join(found.text.split())
    for heading in (
        "Sources",
        "Leakage between sources",
        "Bad files",
        "Files with equal content",
        "Histograms",
        "Darkest",
        "Noisiest",
    ):
        assert heading in found.text
    assert "not a video that can be read" in found.text
    images = found.images
    histograms = [image for image in images if image.width > 400]
    assert len(histograms) == 6
    assert len(images) == 6 + 3 * 2 * 4
    assert all(len(np.unique(np.asarray(image.convert("L")))) > 20 for image in images)


def test_the_second_picture_of_a_pair_is_the_lit_one(make_clip: MakeClip, tmp_path: Path) -> None:
    path = str(make_clip(tmp_path / "a.mp4", 6))
    row = replace(measure(path), gamma=0.4)
    pair = [
        np.asarray(image).astype(float)
        for image in Reader(build_page([AuditSource("s", (path,))], [row])).images[6:8]
    ]
    assert pair[0].shape == pair[1].shape == (48, 64, 3)
    assert np.abs(pair[1] - 255 * (pair[0] / 255) ** row.gamma).max() <= 1.01


def test_a_page_without_a_single_readable_video(tmp_path: Path) -> None:
    rows = [Measurement(str(tmp_path / name), "bad", "gone") for name in ("a.mp4", "b.mp4")]
    found = Reader(build_page([AuditSource("s", tuple(row.path for row in rows))], rows))
    assert "2 files, 2 bad" in " ".join(found.text.split())
    assert not found.images


def test_a_video_that_went_since_has_no_picture(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", 6)
    row = measure(str(path))
    path.unlink()
    assert len(Reader(build_page([AuditSource("s", (str(path),))], [row])).images) == 6
