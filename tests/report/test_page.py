"""The page of a made run in a reader of HTML and in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.report.page import build_page
from nightcrawler.report.run_folder import RunFolder
from tests.paths import ROOT
from tests.report.made_run import EVIL, NUM_TEST, NUM_VAL, SEED
from tests.report.page_reader import Reader


@pytest.fixture(scope="module")
def page(run: Path, figures: dict[str, Any]) -> Reader:
    return Reader(run / "report.html")


def test_the_page_is_whole_in_itself(page: Reader, run: Path) -> None:
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    links = [value for value in page.values("href") if not value.startswith("#")]
    assert all(value.startswith("#") for value in page.values("xlink:href"))
    # Besides places of the page, links lead to files of the run only.
    assert links
    assert all((run / value).exists() for value in links)
    assert not [value for value in links if value.startswith(("/", "..")) or ":" in value]
    assert all(value.startswith("data:image/jpeg;base64,") for value in page.values("src"))
    assert "default-src 'none'" in page.page
    assert not re.search(r"https?://(?!www\.w3\.org/)", page.page)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert EVIL in page.text


def test_the_page_is_accessible(page: Reader) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    links = [value for tag, name, value in page.attributes if tag == "a" and name == "href"]
    links = [link for link in links if link.startswith("#")]
    assert len(links) == 15
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert page.tags.count("caption") == page.tags.count("table") > 5
    assert page.tags.count("h1") == 1
    assert all(page.values("alt"))
    assert len(page.values("alt")) == page.tags.count("img")
    roles = page.values("role")
    assert roles.count("img") == page.tags.count("svg") > 10
    assert all(page.values("aria-label"))


def test_every_mistake_has_two_pictures_and_an_unsure_clip_one(
    page: Reader, figures: dict[str, Any]
) -> None:
    mistakes, unsure = figures["focus"]["mistakes"], figures["unsure"]["rows"]
    assert mistakes
    assert unsure
    assert page.tags.count("img") == 2 * len(mistakes) + len(unsure)
    assert "gamma 0.25" in page.text


def test_figures_of_dark_labels_say_so(page: Reader) -> None:
    words = " ".join(page.text.split())
    said = f"label-free split test, seed {SEED}, {NUM_TEST} clips, measured with hidden labels; nothing was chosen by them"
    assert words.count(said) > 6
    assert (
        f"label-free split val_dry, seed {SEED}, {NUM_VAL} clips, it picked the checkpoints"
        in words
    )


def test_the_story_comes_first_and_dark_splits_before_bright_ones(page: Reader) -> None:
    words = " ".join(page.text.split())
    body = words[words.index("Contents") :]
    places = [body.index(f" {title} ") for title in ("raw", "lit", "adapted", "round 1", "vote")]
    assert places == sorted(places)
    assert body.index("ceiling") > places[-1]
    splits = [body.index(f"Accuracy on {name}, %") for name in ("test", "total_unlabel", "val_dry")]
    assert splits == sorted(splits)
    assert places[-1] < splits[0]


def test_commands_name_models_that_are_there(page: Reader, run: Path) -> None:
    commands = page.text[page.text.index("nightcrawler predict my_night_clips") :]
    recipes = re.findall(r"--ensemble (\S+) --prefix (\S+)", commands)
    assert recipes == [(f"{run.name}/submission/recipe.yaml", run.name)] * 2
    assert (run.parent / recipes[0][0]).is_file()
    assert f"nightcrawler export {run.name}/round2/_two --out exported" in commands
    assert "_two, best of 2 models: top-1 78.3 % on val_dry; no label of a dark clip" in commands


# --- in a browser -----------------------------------------------------------------------------------------------

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-sync",
    ),
    *(
        "--disable-background-networking",
        "--disable-component-update",
        "--allow-file-access-from-files",
    ),
    *("--enable-logging=stderr", "--virtual-time-budget=10000", "--dump-dom"),
)
FRAME = """<!doctype html><body>
<iframe id="frame" src="{page}" style="width: {width}px; height: 800px; border: 0"></iframe>
<pre id="out"></pre><script>
const frame = document.getElementById("frame");
frame.onload = () => {{
  const root = frame.contentDocument.documentElement;
  for (const one of frame.contentDocument.querySelectorAll("details")) one.open = true;
  const sizes = [root.clientWidth, root.scrollWidth, root.scrollHeight];
  document.getElementById("out").textContent = "sizes " + sizes.join(" ");
}};
</script></body>"""

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


def look(page: Path, folder: Path, width: int, scheme: int) -> tuple[int, int, int, str]:
    """Show a page, all its details open; returns its inner width, scrolled width and height, and what Chromium said.

    Args:
        page: the file.
        folder: for a profile.
        width: of the window, in pixels.
        scheme: 0 dark, 1 light.
    """
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(page=page.as_uri(), width=width))
    own = (
        f"--user-data-dir={folder / 'profile'}",
        f"--blink-settings=preferredColorScheme={scheme}",
    )
    command = [str(CHROMIUM), *FLAGS, *own, frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r"sizes (\d+) (\d+) (\d+)", done.stdout)
    assert found, done.stderr[-2000:]
    inner, scrolled, height = map(int, found.groups())
    return inner, scrolled, height, done.stderr


@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(390, 0), (390, 1), (1280, 1)])
def test_it_fits_the_screen_without_an_error(
    page: Reader, run: Path, tmp_path: Path, width: int, scheme: int
) -> None:
    inner, scrolled, height, said = look(run / "report.html", tmp_path, width, scheme)
    assert width - 20 <= inner <= width
    assert scrolled <= inner
    assert height > 3000
    assert "CONSOLE" not in said, said


@needs_chromium
def test_the_browser_sees_faults(page: Reader, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    fault = '<main><div style="width: 600px">wide</div><script>1</script>'
    bad.write_text(page.page.replace("<main>", fault, 1), encoding="utf-8")
    inner, scrolled, _, said = look(bad, tmp_path, 390, 1)
    assert scrolled > inner
    assert "CONSOLE" in said


def test_the_page_names_no_folder_of_the_machine(
    run: Path, data: Path, figures: dict[str, Any]
) -> None:
    """It is passed on: names of folders within the run say where files are."""
    text = (run / "report.html").read_text(encoding="utf-8")
    places = {str(ROOT), str(data), str(run), str(run.parent), tempfile.gettempdir() + "/"}
    assert [place for place in places if place in text] == []


def test_a_recipe_outside_of_the_project_is_shown_by_its_name(
    run: Path, data: Path, figures: dict[str, Any]
) -> None:
    elsewhere = {**figures, "recipe": f"{data}/recipes/mine.yaml"}
    html = build_page(RunFolder(run, ROOT, {}), elsewhere, run / "report.html")
    assert "<code>mine.yaml</code>" in html
    assert str(data) not in html
