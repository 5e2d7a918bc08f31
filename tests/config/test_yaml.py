"""The strict reader of one YAML file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nightcrawler.config.yaml import MAX_BYTES, parse_value, read_yaml
from nightcrawler.utils.errors import ConfigError


def write(folder: Path, text: str | bytes, name: str = "exp.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def fault(path: Path) -> str:
    """What reading the file raises: a ConfigError that names the file."""
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_leaves_are_flat_with_their_lines(tmp_path: Path) -> None:
    text = "# a comment\nSOLVER:\n  MAX_EPOCH: 3\n\n  BASE_LR: 1e-4\nDATA: {MEAN: [0.4, 0.5], PATH_PREFIX: here}\n"
    file = read_yaml(write(tmp_path, text))
    assert file.values == {
        "SOLVER.MAX_EPOCH": 3,
        "SOLVER.BASE_LR": 0.0001,
        "DATA.MEAN": [0.4, 0.5],
        "DATA.PATH_PREFIX": "here",
    }
    assert file.lines == {
        "SOLVER.MAX_EPOCH": 3,
        "SOLVER.BASE_LR": 5,
        "DATA.MEAN": 6,
        "DATA.PATH_PREFIX": 6,
    }
    assert file.at("SOLVER.BASE_LR") == f"{file.path}:5"
    assert file.bases == []


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "{}\n", "\ufeff"])
def test_an_empty_file_sets_nothing(tmp_path: Path, text: str) -> None:
    file = read_yaml(write(tmp_path, text))
    assert (file.values, file.bases) == ({}, [])


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_text(tmp_path: Path) -> None:
    file = read_yaml(write(tmp_path, "\ufeffRNG_SEED: 3\r\nDEVICE: cpu\r\n"))
    assert file.values == {"RNG_SEED": 3, "DEVICE": "cpu"}
    assert file.lines["DEVICE"] == 2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        (".5e1", 5.0),
        ("-2.e+2", -200.0),
        ("1.0e-4", 1e-4),
        ("'1e-4'", "1e-4"),
        ("0.5", 0.5),
        ("7", 7),
        ("True", True),
        ("off", False),
        ("~", None),
        ("''", ""),
        ("rand-m7-n4-mstd0.5-inc1", "rand-m7-n4-mstd0.5-inc1"),
        ("[[1, 2.0], []]", [[1, 2.0], []]),
        ("été", "été"),
    ],
)
def test_scalars_and_lists(tmp_path: Path, text: str, value: object) -> None:
    read = read_yaml(write(tmp_path, f"KEY: {text}\n")).values["KEY"]
    assert repr(read) == repr(value)
    assert repr(parse_value(text)) == repr(value)


@pytest.mark.parametrize(
    ("text", "bases"),
    [("_BASE_: a.yaml", ["a.yaml"]), ("_BASE_: [a.yaml, ../b.yml]", ["a.yaml", "../b.yml"])],
)
def test_bases_are_one_or_a_list(tmp_path: Path, text: str, bases: list[str]) -> None:
    file = read_yaml(write(tmp_path, f"{text}\nRNG_SEED: 1\n"))
    assert file.bases == bases
    assert file.values == {"RNG_SEED": 1}


@pytest.mark.parametrize(
    "value", ["", "[]", "3", "{a: b}", "[a.yaml, 3]", "[[a.yaml]]", "''", "!!python/name:os.system"]
)
def test_a_base_that_is_no_path_is_a_fault(tmp_path: Path, value: str) -> None:
    assert ":2: _BASE_" in fault(write(tmp_path, f"# first line\n_BASE_: {value}\n"))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("RNG_SEED: 1\nDEVICE: cpu\nRNG_SEED: 1\n", ":3: RNG_SEED: given twice"),
        ("DATA:\n  STD: 1\n  MEAN: 1\n  STD: 1\n", ":4: DATA.STD: given twice"),
        ("DATA:\n  STD: 1\nSOLVER:\n  BASE_LR: 1\nDATA:\n  MEAN: 1\n", ":5: DATA: given twice"),
        ("_BASE_: a.yaml\n_BASE_: b.yaml\n", ":2: _BASE_: given twice"),
        ("DATA: {STD: 1}\nDATA.STD: 2\n", "DATA.STD: "),
        ("DATA.STD: 2\nDATA: {STD: 1}\n", "DATA.STD: "),
    ],
)
def test_a_doubled_key_is_a_fault(tmp_path: Path, text: str, named: str) -> None:
    assert named in fault(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A: &x 1\nB: *x\n", 1),
        ("B: 1\nA: &x [1, 2]\n", 2),
        ("A: 1\nB: *nowhere\n", 2),
        ("A: &a [1]\nB: &b [*a, *a]\nC: [*b, *b]\n", 1),
        ("A: &x {b: *x}\n", 1),
        ("&x A: 1\n", 1),
    ],
)
def test_anchors_and_aliases_are_refused(tmp_path: Path, text: str, line: int) -> None:
    message = fault(write(tmp_path, text))
    assert f":{line}: " in message
    assert "alias" in message


TAGS = [
    "!!python/object/apply:os.system ['touch owned']",
    "!!python/object/new:os.system ['touch owned']",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/tuple [1, 2]",
    "!!binary aGVsbG8=",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "!!timestamp 2001-12-14",
    "2001-12-14",
    "!custom 1",
    "[1, !!python/name:os.system ]",
    "{a: !custom 1}",
    "{}  # and a tag below\nB: !!python/object:os.PathLike {}",
]


@pytest.mark.parametrize("value", TAGS)
def test_tags_are_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    message = fault(write(tmp_path, f"A: {value}\n"))
    assert "is not allowed" in message
    assert os.listdir(tmp_path) == ["exp.yaml"]


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/object:os.PathLike", "!custom"]
)
def test_a_tag_on_the_whole_document_is_refused(tmp_path: Path, tag: str) -> None:
    assert ":1" in fault(write(tmp_path, f"{tag}\nRNG_SEED: 1\n"))


@pytest.mark.parametrize(
    "value",
    [
        ".nan",
        ".inf",
        "-.INF",
        "1e999",
        "[1.0, .nan]",
        "!!int abc",
        "!!float abc",
        "!!bool maybe",
        '!!int ""',
        '!!float ""',
        "1" + ":00" * 200 + ".0",
        "1" + "0" * 5000,
    ],
)
def test_what_is_no_finite_number_is_refused(tmp_path: Path, value: str) -> None:
    assert ":2: SOLVER.BASE_LR: " in fault(write(tmp_path, f"SOLVER:\n  BASE_LR: {value}\n"))
    with pytest.raises(ValueError, match=r"\w"):
        parse_value(value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A: 1\n  B: 2\n", 2),
        ("A: [1, 2\n", 2),
        ("A: 'open\n", 2),
        ("A: 1\n\tB: 2\n", 2),
        ("A: 1\nB: \x01\n", 1),
        ("A: 1\n---\nB: 2\n", 2),
        ("- a\n- b\n", 1),
        ("just text\n", 1),
        ("1: a\n", 1),
        ("true: a\n", 1),
        ("? [a, b]\n: 1\n", 1),
        ("A:\n  <<: {B: 1}\n", 2),
        ("%YAML 9.9\n---\nA: 1\n", 1),
    ],
)
def test_what_is_no_plain_mapping_is_refused_with_its_line(
    tmp_path: Path, text: str, line: int
) -> None:
    assert f":{line}: " in fault(write(tmp_path, text))


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
@pytest.mark.parametrize("depth", [20, 600])
def test_deep_nesting_is_refused(tmp_path: Path, opening: str, depth: int) -> None:
    closing = {"[": "]", "{a: ": "}", "- ": ""}[opening]
    assert "deep" in fault(write(tmp_path, f"A:\n  {opening * depth}1{closing * depth}\n"))


def test_all_faults_of_a_file_come_together_each_with_its_line(tmp_path: Path) -> None:
    text = "A: .nan\nB: 1\nB: 2\nC:\n  D: !x 1\n  3: 4\n_BASE_: []\n"
    path = write(tmp_path, text)
    starts = [line[len(f"{path}:") :].split(":")[0] for line in fault(path).splitlines()]
    assert starts == ["1", "3", "5", "6", "7"]


def test_files_that_are_no_configurations_are_refused(tmp_path: Path) -> None:
    assert "not a .yaml" in fault(write(tmp_path, "RNG_SEED = 1\n", "exp.py"))
    assert "not a .yaml" in fault(write(tmp_path, "{}", "exp.json"))
    assert "not a .yaml" in fault(write(tmp_path, "", "yaml"))
    assert "no such file" in fault(tmp_path / "absent.yaml")
    (tmp_path / "folder.yaml").mkdir()
    assert "no such file" in fault(tmp_path / "folder.yaml")
    assert "not UTF-8" in fault(write(tmp_path, b"A: \xff\n"))


def test_one_megabyte_is_the_limit(tmp_path: Path) -> None:
    text = b"RNG_SEED: 3\n#"
    assert read_yaml(write(tmp_path, text + b"x" * (MAX_BYTES - len(text)))).values == {
        "RNG_SEED": 3
    }
    assert "1 MB" in fault(write(tmp_path, text + b"x" * (MAX_BYTES - len(text) + 1)))


def test_text_of_the_command_line_stays_text_where_it_is_no_yaml() -> None:
    for text in ("", "  ", "a: b: c", "[1, 2", "'open", "#5", "*", "a\n---\nb"):
        assert repr(parse_value(text)) in (repr(text), repr(text.strip()))


@pytest.mark.parametrize(
    "text", ["&x 1", "[&x 1, *x]", "!!python/name:os.system", "!custom x", "[" * 600 + "]" * 600]
)
def test_the_command_line_refuses_what_files_refuse(text: str) -> None:
    with pytest.raises(ValueError, match=r"alias|is not allowed|deep"):
        parse_value(text)
