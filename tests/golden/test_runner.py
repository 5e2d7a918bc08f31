"""Golden files of the data path, training, checkpoints and the chain, and the runner's own verdicts.

Files of whole models are run by tests/models.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden.__main__ import check_file, main
from tests.golden.case import absolute, exact, relative
from tests.paths import GOLDEN

KINDS_HERE = ("data_", "train_", "test_", "ckpt_", "ensemble_")
FILES = sorted(path for path in GOLDEN.glob("*.json") if path.name.startswith(KINDS_HERE))


def test_there_are_files() -> None:
    assert len(FILES) == 12


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    checks = check_file(path)
    assert checks
    assert [check for check in checks if not check.passed] == []


def test_the_runner_fails_on_a_wrong_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = json.loads((GOLDEN / "data_gamma_lut.json").read_text())
    good = tmp_path / "data_gamma_lut.json"
    good.write_text(json.dumps(case))
    assert main([str(good)]) == 0

    def bump(value: object) -> object:
        if isinstance(value, dict):
            return {
                key: bump(item) if key not in ("gamma", "what") else item
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [bump(item) for item in value]
        return value + 1 if isinstance(value, int) and not isinstance(value, bool) else value

    good.write_text(json.dumps(bump(case)))
    assert main([str(good)]) == 1
    assert "FAIL data_gamma_lut.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", ["{}", "[", '{"family": "uniformer", "mode": "eval"}', '{"family": "x", "mode": 1}']
)
def test_a_file_that_is_no_case_fails_without_a_traceback(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.json"
    path.write_text(content)
    assert main([str(path), str(tmp_path / "missing.json")]) == 1
    assert capsys.readouterr().out.count("FAIL") == 2


def test_comparisons_fail_on_nan_and_shape() -> None:
    assert not absolute("nan", [float("nan")], [1.0], 1e9).passed
    assert not relative("shape", [1.0, 2.0], [1.0], 1e9).passed
    assert relative("scaled", [1001.0], [1000.0], 1.001e-3).passed
    assert not relative("scaled", [1002.0], [1000.0], 1.001e-3).passed
    assert exact("same", [1], [1]).passed
    assert not exact("other", [1], [2]).passed
