"""The page in headless Chromium: a clip, an error for a text file, keys, sizes, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web import browser as chromium
from tests.web.browser import Browser
from tests.web.conftest import Served

pytestmark = pytest.mark.skipif(
    chromium.CHROMIUM is None, reason="needs Chromium: apt-get install chromium"
)
IS_ALLOWED = "Failed to load resource: the server responded with a status of 4"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.opened() as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, served: Served) -> Browser:
    browser.look_like(1280, 800)
    browser.open(f"http://127.0.0.1:{served.port}/")
    return browser


def text(page: Browser, selector: str) -> str:
    return page.run(f"document.querySelector('{selector}').innerText")


def hidden(page: Browser) -> list[bool]:
    return page.run("['busy', 'error', 'result'].map((id) => document.getElementById(id).hidden)")


def test_upload_and_result(page: Browser, served: Served, clip: Path) -> None:
    assert hidden(page) == [True, True, True]
    page.choose("#file", clip)
    page.wait("!document.getElementById('result').hidden")
    assert hidden(page) == [True, True, False]
    assert text(page, "#name") == clip.name
    assert page.run("document.querySelectorAll('#bars li').length") == 5
    best = page.run("document.querySelector('#bars span').innerText")
    assert text(page, "#answer").startswith(best)
    assert page.run(
        "[...document.querySelectorAll('#votes span')].map((one) => one.innerText)"
    ) == ["first", "second"]
    assert page.run("document.querySelectorAll('#track button').length") >= 1
    assert page.run("document.activeElement.id") == "result"
    page.wait(
        "['before', 'after'].every((id) => find(id).videoWidth === 48 && find(id).currentTime > 0)"
    )
    assert [error for error in page.console if not error.startswith(IS_ALLOWED)] == []
    assert {request.split("/")[2] for request in page.requests} == {f"127.0.0.1:{served.port}"}


def test_a_text_file_is_an_error_and_the_next_clip_works(
    page: Browser, clip: Path, tmp_path: Path
) -> None:
    for name, why in (
        ("notes.txt", "is not a video by its name"),
        ("notes.mp4", "not a video that can be read"),
    ):
        (tmp_path / name).write_text("Walk, then run.\n" * 20)
        page.choose("#file", tmp_path / name)
        page.wait(f"document.getElementById('why').innerText.includes('{why}')")
        assert hidden(page) == [True, False, True]
    assert page.run("document.getElementById('error').getAttribute('role')") == "alert"
    (tmp_path / "big.mp4").write_bytes(bytes(3 << 20))
    page.choose("#file", tmp_path / "big.mp4")
    page.wait("document.getElementById('why').innerText.includes('has 3 MiB, more than the 1 MiB')")
    page.choose("#file", clip)
    page.wait("!document.getElementById('result').hidden")
    assert hidden(page) == [True, True, False]


def test_names_of_files_are_text(page: Browser, clip: Path, tmp_path: Path) -> None:
    evil = tmp_path / "<img src=x onerror=alert(1)>.mp4"
    evil.write_bytes(clip.read_bytes())
    page.choose("#file", evil)
    page.wait("!document.getElementById('result').hidden")
    assert text(page, "#name") == evil.name
    assert page.run("document.querySelectorAll('img').length") == 0


def test_keys_reach_everything(page: Browser, clip: Path) -> None:
    page.choose("#file", clip)
    page.wait("!document.getElementById('result').hidden")
    page.run("document.activeElement.blur()")
    reached = []
    for _ in range(6):
        page.press("Tab", 9)
        reached.append(page.run("document.activeElement.id || document.activeElement.className"))
    assert reached[0] in ("wipe", "skip")  # browsers go on from where the focus was
    assert {"wipe", "play"} <= set(reached)
    page.run("document.getElementById('wipe').focus()")
    page.press("ArrowRight", 39)
    assert page.run("getComputedStyle(find('compare')).getPropertyValue('--at')") == "51%"
    page.run("document.getElementById('play').click()")
    assert text(page, "#play") == "Play"
    assert page.run("before.paused && after.paused")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_it_fits_and_can_be_read(page: Browser, clip: Path, width: int, scheme: str) -> None:
    page.look_like(width, 800, scheme, motion="reduce")
    page.choose("#file", clip)
    page.wait("!document.getElementById('result').hidden")
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run("before.paused && after.paused")
    # Contrast of text on its ground, by WCAG 2's formula.
    contrast = """(selector, ground) => {
      const light = (color) => color.match(/[0-9.]+/g).slice(0, 3).map((one) => one / 255)
        .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
        .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
      const style = (name) => getComputedStyle(document.querySelector(name));
      const both = [light(style(selector).color), light(style(ground).backgroundColor)].sort((a, b) => b - a);
      return (both[0] + 0.05) / (both[1] + 0.05);
    }"""
    pairs = (
        ("h1", "body"),
        (".lead", "body"),
        (".button", ".button"),
        ("#name", ".say"),
        ("dd", "body"),
    )
    for selector, ground in (
        *pairs,
        ("#why", ".error"),
        (".error h2", ".error"),
        ("#track button", "#track button"),
    ):
        assert page.run(f"({contrast})('{selector}', '{ground}')") >= 4.5, selector
