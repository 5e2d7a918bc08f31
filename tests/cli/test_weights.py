"""`nightcrawler weights`: the known names, and a check of the files that are there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nightcrawler.cli import main as program
from nightcrawler.models.zoo import WEIGHTS_FOLDER, ZOO
from nightcrawler.utils.project import use_project


def unpinned_names() -> list[str]:
    """Names whose file has no known SHA-256, so that a made-up file passes for it."""
    return [name for name, entry in ZOO.items() if not getattr(entry, "sha256", "")]


def test_list_names_every_file_and_its_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = next(iter(ZOO))
    path = tmp_path / WEIGHTS_FOLDER / ZOO[first].file
    path.parent.mkdir(parents=True)
    path.touch()
    with use_project(tmp_path):
        assert program.main(["weights", "list"]) == 0
    shown = capsys.readouterr().out
    for name, entry in ZOO.items():
        assert f"{name}\n  file    {tmp_path / WEIGHTS_FOLDER / entry.file} (" in shown
        assert f"  source  {entry.source}\n" in shown
    assert f"{path} (there)" in shown
    assert "(not there)" in shown


def test_verify_without_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with use_project(tmp_path):
        assert program.main(["weights", "verify"]) == 0
    assert capsys.readouterr().out == f"0 of {len(ZOO)} files are there, 0 cannot be used\n"


def test_verify_tells_a_good_file_from_a_damaged_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = unpinned_names()[:2]
    for name in (good, bad):
        path = tmp_path / WEIGHTS_FOLDER / ZOO[name].file
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"model_state": {"head.weight": torch.zeros(2, 3)}}, path)
    damaged = tmp_path / WEIGHTS_FOLDER / ZOO[bad].file
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    with use_project(tmp_path):
        assert program.main(["weights", "verify"]) == 1
    shown = capsys.readouterr()
    assert f"ok     {good}: " in shown.out
    assert f"2 of {len(ZOO)} files are there, 1 cannot be used" in shown.out
    assert shown.err.startswith(f"WRONG  {bad}: ")
    assert damaged.name in shown.err
    assert shown.err.count("\n") == 1
