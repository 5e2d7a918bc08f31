"""Golden files of the data path, training, checkpoints and the chain, and the runner's own verdicts.

Files of whole models are run by tests/models.
"""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.golden.__main__ import check_file, main
from tests.golden.case import absolute, exact, of_sum, relative
from tests.golden.fields import NOTES, Refusal
from tests.paths import GOLDEN, ROOT

KINDS_HERE = ("data_", "train_", "test_", "ckpt_", "ensemble_")
FILES = sorted(path for path in GOLDEN.glob("*.json") if path.name.startswith(KINDS_HERE))
# Settings that change no figure when they change a little, or are of a model that is not used.
WITHOUT_EFFECT = {
    "data_dense_sampling.json": {"temporal_sampling[].num_total", "decode[].clip_idx"},
    "data_pathways.json": {"sf_cases[].T"},
    "data_spatial_crop.json": {"uniform_crop_offsets[].height", "crops[].spatial_idx"},
    "train_targets_losses.json": {
        "mixup_accuracy[].C",
        "mixup_accuracy[].phase",
        "mixup_accuracy[].lam",
    },
    "ensemble_pseudo_labels.json": {"table.model_index.dense"},
}
# Names in the page that are no files.
NO_FILES = {"kl_published", "sf32_k700", "train_epoch", "update_bn_stats"}
# Ensembles take a tenth of a second each.
MOST_CHANGES = 25


def verdict(content: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The line that the runner prints about a failing file with this content."""
    path = tmp_path / "case.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert main([str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("FAIL case.json: ")
    return lines[0].removeprefix("FAIL case.json: ")


def read(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


def test_there_are_files() -> None:
    assert len(FILES) == 13


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    checks = check_file(path)
    assert checks
    assert [check for check in checks if not check.passed] == []


def numbers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all numbers below a value, apart from notes."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name not in NOTES:
                yield from numbers(item, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from numbers(item, (*path, index))
    elif isinstance(value, (int, float)):
        yield path


def pattern(path: tuple[Any, ...]) -> str:
    """A path without indices, such as `steps[].lr`."""
    text = "".join("[]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def changed(case: Any, path: tuple[Any, ...]) -> Any:
    """A copy of a case with another number at a path."""
    case = copy.deepcopy(case)
    holder = case
    for part in path[:-1]:
        holder = holder[part]
    value = holder[path[-1]]
    if isinstance(value, bool):
        holder[path[-1]] = not value
    else:
        holder[path[-1]] = value + 1 if isinstance(value, int) else 1.5 * value + 0.1
    return case


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_number_of_a_case_is_looked_at(path: Path, tmp_path: Path) -> None:
    """One wrong number of each field fails the case, or stops it."""
    case = read(path.name)
    fields: dict[str, list[tuple[Any, ...]]] = {}
    for place in numbers(case):
        fields.setdefault(pattern(place), []).append(place)
    names = sorted(fields)
    if path.name.startswith("ensemble_"):
        names = random.Random(0).sample(names, MOST_CHANGES)
    unnoticed = set()
    for name in names:
        file = tmp_path / path.name
        file.write_text(json.dumps(changed(case, fields[name][len(fields[name]) // 2])))
        if main([str(file)]) == 0:
            unnoticed.add(name)
    assert unnoticed == WITHOUT_EFFECT.get(path.name, set()) & set(names)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{}", "unknown kind of case with field none; known kinds: segment sampling, dense"),
        ("[", "is not JSON: "),
        ("[" * 100_000, "is not JSON: "),
        ("[1]", "holds no object but list"),
        ('{"gamma": 1, "lut": [], "gamma": 2}', "field 'gamma' is there twice"),
        ('{"family": "x", "mode": 1}', "field fill is missing"),
        ('{"family": "uniformer", "mode": "eval"}', "field fill is missing"),
        ('{"a": 1, "b": 2, "c": 3, "d": 4}', "unknown kind of case with fields a, b, c and 1 more"),
        ('{"luts": []}', "gamma table: nothing was compared"),
        ('{"cases": []}', "nothing was compared"),
        ('{"schedules": []}', "learning rate: nothing was compared"),
    ],
)
def test_a_file_that_is_no_case_fails_in_one_line(
    content: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in verdict(content, tmp_path, capsys)


def test_files_that_are_not_there_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "missing.json"), str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "FAIL missing.json: cannot be read: No such file or directory" in out
    assert out.count("FAIL") == 2


def add_to(*path: Any) -> Callable[[Any], None]:
    """Put a field that no kind knows into an object of a case."""

    def add(case: Any) -> None:
        for part in path:
            case = case[part]
        case["beta"] = 3

    return add


@pytest.mark.parametrize(
    ("name", "add", "told"),
    [
        ("data_gamma_lut.json", add_to(), "gamma table: unknown field beta,"),
        ("data_sparse_sampling.json", add_to("test", 3), "unknown field test[3].beta,"),
        ("data_eval_chain.json", add_to("cases", 1, "digest"), "cases[1].digest.beta,"),
        ("train_targets_losses.json", add_to("losses", 0), "unknown field losses[0].beta,"),
        ("ensemble_final_vote.json", add_to("modes", "2"), "unknown field modes.2.beta,"),
        ("uniformer_tiny.json", add_to("resolved_config", "UNIFORMER"), "UNIFORMER.beta,"),
        ("uniformer_tiny_adamw_steps.json", add_to("steps", 1), "unknown field steps[1].beta,"),
        ("uniformer_tiny_precise_bn.json", add_to(), "precise BN: unknown field beta,"),
    ],
)
def test_an_unknown_field_is_refused(
    name: str,
    add: Callable[[Any], None],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    case = read(name)
    add(case)
    assert told in verdict(case, tmp_path, capsys)


def test_an_explanation_may_be_added(tmp_path: Path) -> None:
    case = read("data_gamma_lut.json") | {"remark": "a text of several words"}
    path = tmp_path / "case.json"
    path.write_text(json.dumps(case))
    assert main([str(path)]) == 0


@pytest.mark.parametrize(
    ("name", "place", "value", "told"),
    [
        ("uniformer_tiny.json", ("mode",), "test", "mode 'test', expected 'eval' or 'train'"),
        ("uniformer_tiny.json", ("fill", "name"), "ones", "fill.name 'ones', expected"),
        ("uniformer_tiny.json", ("family",), "mvit", "family 'mvit', but resolved_config is of"),
        (
            "mvit_tiny_sep_cls.json",
            ("resolved_config", "MVIT", "NORM"),
            "batchnorm",
            "resolved_config.MVIT.NORM is 'batchnorm', expected 'layernorm'",
        ),
        (
            "uniformer_tiny.json",
            ("resolved_config", "MODEL", "ARCH"),
            "x3d",
            "a model of no known family",
        ),
        ("uniformer_tiny_precise_bn.json", ("dtype",), "float16", "dtype 'float16', expected"),
        ("uniformer_tiny_adamw_steps.json", ("step_rule",), "k epochs", "step_rule 'k epochs'"),
        (
            "uniformer_tiny_adamw_steps.json",
            ("solver", "UNIFORMER.DROP_DEPTH_RATE"),
            0.1,
            "solver: UNIFORMER.DROP_DEPTH_RATE is 0.1, expected 0.0",
        ),
        (
            "uniformer_tiny_adamw_steps.json",
            ("solver", "SOLVER.LAMB"),
            1,
            "solver: unknown field SOLVER.LAMB",
        ),
        ("test_meter.json", ("cases", 0, "method"), "mean", "method 'mean', expected 'sum' or"),
        ("test_meter.json", ("cases", 0, "clip_preds"), "random", "clip_preds 'random', expected"),
        ("data_eval_chain.json", ("cases", 0, "frames"), "uint8 [T=2,4,4,3]", "frames 'uint8"),
        ("ensemble_final_vote.json", ("files", "modes 3,4"), "as before", "is not understood"),
        ("ensemble_final_vote.json", ("table", "classes"), 12, "table.classes is 12, expected 11"),
    ],
)
def test_a_value_that_is_not_known_is_refused(
    name: str,
    place: tuple[Any, ...],
    value: object,
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    case = read(name)
    holder = case
    for part in place[:-1]:
        holder = holder[part]
    holder[place[-1]] = value
    assert told in verdict(case, tmp_path, capsys)


def test_what_a_file_lacks_is_named(tmp_path: Path) -> None:
    case = read("data_sparse_sampling.json")
    del case["test"][2]["num_views"]
    path = tmp_path / "case.json"
    path.write_text(json.dumps(case))
    with pytest.raises(KeyError, match=r"field test\[2\].num_views is missing"):
        check_file(path)
    path.write_text("{}")
    with pytest.raises(Refusal):
        check_file(path)


def test_the_page_names_files_that_are_there() -> None:
    text = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    tests = set(re.findall(r"tests/\w+/\w+\.py", text))
    assert len(tests) >= 5
    assert [name for name in tests if not (ROOT / name).is_file()] == []
    cases = set(re.findall(r"`([a-z]+\d*_[\w*]+)`", text)) - NO_FILES
    assert len(cases) >= 10
    assert [name for name in cases if not list(GOLDEN.glob(f"{name}.json"))] == []


def test_comparisons_fail_on_nan_and_shape() -> None:
    assert not absolute("nan", [float("nan")], [1.0], 1e9).passed
    assert not relative("shape", [1.0, 2.0], [1.0], 1e9).passed
    assert relative("scaled", [1001.0], [1000.0], 1.001e-3).passed
    assert not relative("scaled", [1002.0], [1000.0], 1.001e-3).passed
    assert exact("same", [1], [1]).passed
    assert not exact("other", [1], [2]).passed


def test_null_is_not_a_number_and_equal_to_that_only() -> None:
    nan, inf = float("nan"), float("inf")
    for compare in (absolute, relative):
        assert compare("null", [nan, 2.0], [None, 2.0], 0.0).passed
        assert compare("null", nan, None, 0.0).passed
        assert not compare("a number for null", [0.0, 2.0], [None, 2.0], 1e9).passed
        assert not compare("beside null", [nan, 3.0], [None, 2.0], 1e-3).passed
        assert compare("infinite", [inf, 1.0], [inf, 1.0], 0.0).passed
        assert not compare("other sign", [-inf, 1.0], [inf, 1.0], 1e9).passed


def test_a_sum_is_compared_by_the_size_of_its_terms() -> None:
    """1e8 + 1 - 1e8 in float32 is 0 or 8: right for such terms, wrong for small ones."""
    assert of_sum("large terms", 8.0, 1.0, 2e8, 1e-6).passed
    assert not of_sum("small terms", 8.0, 1.0, 10.0, 1e-6).passed
    assert not of_sum("nan", float("nan"), 1.0, 2e8, 1e-6).passed
