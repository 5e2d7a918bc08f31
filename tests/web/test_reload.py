"""The page that is loaded again in its tab has the list of before, with a worker that answers at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web import whole_answers
from tests.web.browser import CHROMIUM, Browser, opened
from tests.web.conftest import WHY, Served, serving

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
STATES = "[...document.querySelectorAll('#files li')].map((one) => one.innerText)"


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    for name in ("starlette", "uvicorn"):
        pytest.importorskip(name, reason=WHY)
    kept = tmp_path_factory.mktemp("kept")
    with serving(whole_answers.build, kept, 60.0, class_names=("Run",)) as running:
        yield running


def load(page: Browser, served: Served) -> None:
    page.open("about:blank")
    page.open(f"http://127.0.0.1:{served.port}/")


def wait_for_count(page: Browser, words: str) -> None:
    page.wait(f"document.getElementById('count').innerText === '{words}'")


def test_a_reload_keeps_the_list(quick: Served, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.mp4", "bad.mp4", "b.mp4", "big.mp4")]
    for path in paths[:3]:
        path.write_bytes(b"x")
    paths[3].write_bytes(bytes(3 << 20))
    with opened() as page:
        load(page, quick)
        page.choose("#file", *paths)
        wait_for_count(page, "4 clips")
        before = page.run(STATES)
        load(page, quick)
        wait_for_count(page, "4 clips")
        page.wait("document.getElementById('result').checkVisibility()")
        assert page.run(STATES) == before
        assert page.run("document.getElementById('name').innerText") == "a.mp4"
        page.run("document.querySelectorAll('#files .open')[1].click()")
        page.wait("document.getElementById('error').checkVisibility()")
        # Its file is no longer at hand.
        assert not page.run("document.getElementById('again').checkVisibility()")
        for place in (3, 0):
            page.run(f"document.querySelectorAll('#files .remove')[{place}].click()")
        load(page, quick)
        wait_for_count(page, "2 clips")
        page.run("document.getElementById('clear').click()")
        load(page, quick)
        assert not page.run("document.getElementById('work').checkVisibility()")
