"""The lock file: pinned, hashed, of this project's requirements, without a host or a path; advisories in a line."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from benchmarks import advisories, lock
from nightcrawler.utils.errors import UserError
from tests.paths import ROOT

PINNED = re.compile(r"[a-z0-9._-]+==[A-Za-z0-9.+!]+ --hash=sha256:[0-9a-f]{64}")


def lines() -> list[str]:
    return [one for one in lock.LOCK.read_text().splitlines() if not one.startswith("#")]


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def release(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def test_every_line_is_pinned_and_hashed_and_names_no_place() -> None:
    assert lines() == sorted(set(lines()))
    assert all(PINNED.fullmatch(line) for line in lines())
    text = lock.LOCK.read_text()
    assert "://" not in text
    assert "/" not in text.replace("INSTALL.md", "")


def test_it_holds_what_the_project_requires_at_its_floors_or_above() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    # The last of `dev` is the project itself, with the extras that tests need.
    *dev, own = extras["dev"]
    assert own.startswith(f"{lock.PROJECT}[")
    required = [*project["dependencies"], *extras["docs"], *dev]
    for name in own[len(lock.PROJECT) + 1 : -1].split(","):
        required += extras[name]
    locked = dict(line.split(" ")[0].split("==") for line in lines())
    locked = {plain(name): version for name, version in locked.items()}
    for text in required:
        name, _, floor = re.sub(r"\[.*?\]", "", text).partition(">=")
        found = locked.get(plain(name), "0")
        assert release(found) >= release(floor), f"{text}: run python -m benchmarks.lock"


def entry(name: str, **info: object) -> dict[str, object]:
    return {"metadata": {"name": name, "version": "1.0"}, "download_info": info}


def test_lines_of_a_report() -> None:
    hashed = {"url": "file:///somewhere/b.whl", "archive_info": {"hashes": {"sha256": "ab"}}}
    report = {"install": [entry("B", **hashed), entry("a", **hashed), entry(lock.PROJECT)]}
    assert lock.lock_lines(report) == ["a==1.0 --hash=sha256:ab", "b==1.0 --hash=sha256:ab"]
    with pytest.raises(UserError, match=r"c 1\.0: its file has no hash"):
        lock.lock_lines({"install": [entry("c", dir_info={})]})


def test_whether_it_fits_is_asked_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock.txt"
    monkeypatch.setattr(lock, "LOCK", path)
    path.write_text(lock.HEADER.format(platform=lock.this_platform()))
    assert lock.main(["--fits"]) == 0
    path.write_text(lock.HEADER.format(platform="Linux x86_64, cpython 3.1"))
    assert lock.main(["--fits"]) == 1


def test_advisories_are_said_in_lines() -> None:
    found = {"name": "b", "version": "1.0", "vulns": [{"id": "X-1", "fix_versions": ["1.1"]}]}
    open_ = {"name": "c", "version": "2.0", "vulns": [{"id": "X-2", "fix_versions": []}]}
    skipped = {"name": "d", "skip_reason": "not found"}
    sound = {"name": "a", "version": "1.0", "vulns": []}
    assert advisories.describe({"dependencies": [sound, found, open_, skipped]}) == [
        "advisory: b 1.0: X-1, fixed in 1.1",
        "advisory: c 2.0: X-2, fixed in no release",
        "3 of 4 packages were compared with advisories",
    ]
    (line,) = advisories.describe({"dependencies": [skipped]})
    assert line.startswith("advisories were not compared")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit('no network')", "advisories were not compared: no network"),
        ("print('[1]')", "advisories were not compared: no answer"),
        ("print('{\"dependencies\": []}')", "advisories were not compared: the database"),
    ],
)
def test_what_fails_breaks_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str, said: str
) -> None:
    script = tmp_path / "pip-audit"
    script.write_text(f"#!{sys.executable}\n{program}\n")
    script.chmod(0o755)
    assert advisories.main([str(script)]) == 0
    assert capsys.readouterr().out.startswith(said)


def test_no_program_is_said_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert advisories.main([str(tmp_path / "gone")]) == 0
    assert capsys.readouterr().out.startswith("advisories were not compared: ")
