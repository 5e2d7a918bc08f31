"""The page in headless Chromium: clips, errors in words, many at once, keys alone, sizes, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeClip
from tests.web import browser as chromium
from tests.web.browser import Browser
from tests.web.conftest import Served

pytestmark = pytest.mark.skipif(
    chromium.CHROMIUM is None, reason="needs Chromium: apt-get install chromium"
)
IS_ALLOWED = "Failed to load resource: the server responded with a status of 4"
BEFORE = "document.getElementById('before')"
NUM_MANY = 20


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.opened() as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, served: Served) -> Browser:
    browser.look_like(1280, 800)
    browser.open("about:blank")
    address = f"http://127.0.0.1:{served.port}/"
    # The list of the test before, which a reload would keep: this page has no script to write it.
    browser.open(f"{address}docs")
    browser.run("sessionStorage.clear()")
    browser.open(address)
    return browser


def text(page: Browser, selector: str) -> str:
    return page.run(f"document.querySelector('{selector}').innerText")


def texts(page: Browser, selector: str) -> list[str]:
    return page.run(f"[...document.querySelectorAll('{selector}')].map((one) => one.innerText)")


def is_shown(page: Browser, name: str) -> bool:
    return page.run(f"document.getElementById('{name}').checkVisibility()")


def wait_for(page: Browser, name: str) -> None:
    page.wait(f"document.getElementById('{name}').checkVisibility()")


def test_upload_and_result(page: Browser, served: Served, clip: Path) -> None:
    assert not is_shown(page, "work")
    page.choose("#file", clip)
    wait_for(page, "result")
    assert not is_shown(page, "error")
    assert not is_shown(page, "wait")
    assert text(page, "#name") == clip.name
    assert page.run("document.querySelectorAll('#bars li').length") == 5
    best = page.run("document.querySelector('#bars span').innerText")
    assert text(page, "#answer").startswith(best)
    assert texts(page, "#votes span") == ["first", "second"]
    assert page.run("document.querySelectorAll('#lines button').length") >= 1
    assert page.run("document.activeElement.id") == "result"
    assert text(page, "#said").startswith(f"{clip.name}: {best}")
    page.wait(
        "['before', 'after'].map((id) => document.getElementById(id))"
        ".every((one) => one.videoWidth === 48 && one.currentTime > 0)"
    )
    assert [error for error in page.console if not error.startswith(IS_ALLOWED)] == []
    assert {request.split("/")[2] for request in page.requests if "http" in request} == {
        f"127.0.0.1:{served.port}"
    }


def test_an_example_is_one_click_away(page: Browser) -> None:
    page.run("document.querySelector('[data-example]').click()")
    wait_for(page, "result")
    assert text(page, "#name") == page.run(
        "document.querySelector('[data-example]').dataset.example"
    )


def test_a_text_file_is_an_error_and_the_next_clip_works(
    page: Browser, clip: Path, tmp_path: Path
) -> None:
    for name, why in (
        ("notes.txt", "is not a video by its name"),
        ("notes.mp4", "his is no video that can be read"),
    ):
        (tmp_path / name).write_text("Walk, then run.\n" * 20)
        page.choose("#file", tmp_path / name)
        page.wait(f"document.getElementById('why').innerText.includes('{why}')")
        assert is_shown(page, "error")
        assert not is_shown(page, "result")
        assert not is_shown(page, "readable")
        assert why in text(page, "#said")
    (tmp_path / "big.mp4").write_bytes(bytes(3 << 20))
    page.choose("#file", tmp_path / "big.mp4")
    page.wait("document.getElementById('why').innerText.includes('has 3 MiB, more than the 1 MiB')")
    page.choose("#file", clip)
    wait_for(page, "result")
    assert not is_shown(page, "error")


def test_names_of_files_are_text(page: Browser, clip: Path, tmp_path: Path) -> None:
    evil = tmp_path / "<img src=x onerror=alert(1)>.mp4"
    evil.write_bytes(clip.read_bytes())
    page.choose("#file", evil)
    wait_for(page, "result")
    assert text(page, "#name") == evil.name
    assert texts(page, "#files .file") == [evil.name]
    assert page.run("document.querySelectorAll('img').length") == 0


def test_twenty_files_at_once_one_of_them_broken(
    page: Browser, clip: Path, make_clip: MakeClip, tmp_path: Path
) -> None:
    paths = []
    for number in range(NUM_MANY - 1):
        paths.append(tmp_path / f"clip {number:02d}.mp4")
        paths[-1].write_bytes(clip.read_bytes())
    content = make_clip(tmp_path / "whole.mkv", 100).read_bytes()
    paths.insert(3, tmp_path / "broken.mkv")
    paths[3].write_bytes(content[: len(content) * 7 // 10])
    page.choose("#file", *paths)
    assert page.run("document.querySelectorAll('#files li').length") == NUM_MANY
    # The first that is ready is shown while the others go on.
    wait_for(page, "result")
    shown = text(page, "#name")
    # Files are sent two at a time, and either may arrive first.
    assert shown in ("clip 00.mp4", "clip 01.mp4")
    page.wait(f"document.getElementById('count').innerText === '{NUM_MANY} clips'")
    assert texts(page, "#files .file") == [path.name for path in paths]
    assert page.run("document.querySelectorAll('#files .done').length") == NUM_MANY - 1
    failed = text(page, "#files .failed .state")
    assert failed.startswith(("the file breaks off after about", "The file breaks off"))
    assert text(page, "#name") == shown
    rows = page.run("fetch(document.getElementById('all-csv').href).then((one) => one.text())")
    names = [row.split(",")[0] for row in rows.strip().split("\n")]
    assert names == ["video", *[path.name for path in paths]]
    # The part that can be read, where it is asked for.
    page.run("document.querySelector('#files .failed .open').click()")
    assert is_shown(page, "error")
    page.run("document.getElementById('readable').click()")
    page.wait("document.getElementById('name').innerText === 'broken.mkv'")
    wait_for(page, "result")
    assert text(page, "#status").startswith("damaged: ")
    page.run("document.getElementById('clear').click()")
    assert not is_shown(page, "work")


def test_a_line_behind_the_preview_is_watched_there(
    page: Browser, make_clip: MakeClip, tmp_path: Path
) -> None:
    page.choose("#file", make_clip(tmp_path / "long.mp4", 340))
    wait_for(page, "result")
    assert is_shown(page, "whole")
    last = "[...document.querySelectorAll('#lines button')].at(-1)"
    wanted = page.run(f"Number({last}.innerText.match(/([0-9.]+) to/)[1])")
    page.run(f"{last}.focus()")
    if wanted < 12:
        # Untrained models may say one class throughout: ask for the whole by its own button.
        page.run("document.getElementById('whole').focus()")
    page.press("Enter", 13)
    page.wait(f"{BEFORE}.src.includes('whole_before') && {BEFORE}.duration > 13")
    page.run(f"{last}.focus()")
    page.press("Enter", 13)
    page.wait(f"{BEFORE}.currentTime >= {wanted} && {last}.hasAttribute('aria-current')")
    assert not is_shown(page, "whole")


def test_keys_alone_reach_and_do_everything(page: Browser, clip: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(clip.read_bytes())
    page.choose("#file", clip, other)
    page.wait("document.getElementById('count').innerText === '2 clips'")
    page.run("document.querySelector('.skip').focus()")
    reached = []
    for _ in range(40):
        page.press("Tab", 9)
        reached.append(page.run("document.activeElement.closest('[id]')?.id"))
        # What has the focus is seen: an outline on itself, its label or its picture.
        assert page.run("""(() => {
          const one = document.activeElement, near = {file: '.button', wipe: '.cut'}[one.id];
          const style = near === '.cut' ? getComputedStyle(document.querySelector(near), '::after')
            : getComputedStyle(near ? document.querySelector(near) : one);
          return one === document.body || ['result', 'error'].includes(one.id) || style.outlineStyle !== 'none';
        })()"""), reached[-1]
        if reached[-1] == "one-json":
            break
    order = ["file", "examples", "clear", "files", "all-csv", "all-json", "wipe", "play"]
    places = [reached.index(name) for name in [*order, "lines", "annotated", "one-csv"]]
    assert places == sorted(places)
    page.run("document.getElementById('wipe').focus()")
    page.press("ArrowRight", 39)
    compare = "getComputedStyle(document.getElementById('compare'))"
    assert page.run(f"{compare}.getPropertyValue('--at')") == "51%"
    page.run("document.getElementById('play').focus()")
    page.press("Enter", 13)
    assert text(page, "#play") == "Play"
    assert page.run(f"{BEFORE}.paused")
    # A line of the timeline by Enter, a file of the list by Space, and its removal.
    page.run("document.querySelector('#lines button').focus()")
    page.press("Enter", 13)
    assert text(page, "#play") == "Pause"
    page.run("document.querySelectorAll('#files .open')[1].focus()")
    page.press(" ", 32)
    assert text(page, "#name") == other.name
    page.run("document.querySelectorAll('#files .remove')[1].focus()")
    page.press("Enter", 13)
    assert texts(page, "#files .file") == [clip.name]
    assert page.run("document.activeElement.className") == "open"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_it_fits_and_can_be_read(
    page: Browser, served: Served, clip: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    page.look_like(width, 800, scheme, motion="reduce")
    (tmp_path / "notes.mp4").write_text("words")
    page.choose("#file", clip, tmp_path / "notes.mp4")
    wait_for(page, "result")
    page.wait("document.getElementById('count').innerText === '2 clips'")
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run(f"{BEFORE}.paused")
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
        (".link", ".drop"),
        (".file", ".list"),
        (".failed .state", ".list"),
        (".open[aria-current] .file", ".open[aria-current]"),
        ("#all-csv", ".list"),
    )
    for selector, ground in (
        *pairs,
        ("#why", ".error"),
        (".error h2", ".error"),
        ("#track > span", "#track > span"),
        ("#lines .soft", ".when"),
    ):
        assert page.run(f"({contrast})('{selector}', '{ground}')") >= 4.5, selector
    page.open(f"http://127.0.0.1:{served.port}/docs")
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run(f"({contrast})('.doc td', 'body')") >= 4.5
