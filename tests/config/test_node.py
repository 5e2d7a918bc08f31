"""Bases, overlays and overrides; freezing, dumping and hashing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from fvcore.common.config import CfgNode
from hypothesis import given, settings
from hypothesis import strategies as st

from nightcrawler.config.identity import MACHINE_KEYS
from nightcrawler.config.load import load_experiment
from nightcrawler.config.node import changed_from_defaults, config_hash, dump, flatten, get_cfg
from nightcrawler.config.yaml import read_yaml
from nightcrawler.utils.errors import ConfigError
from tests.paths import ROOT

KEYS = list(flatten(get_cfg()))


def write(folder: Path, text: str, name: str = "exp.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def load(
    folder: Path, text: str = "", overrides: Sequence[str] = (), overlays: Sequence[Path] = ()
) -> CfgNode:
    return load_experiment(write(folder, text), overlays, overrides, root=folder)


def faults(folder: Path, text: str = "", overrides: Sequence[str] = ()) -> list[str]:
    """The lines of the ConfigError that loading raises."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, overrides)
    return str(caught.value).splitlines()


def outcome(path: Path, overrides: Sequence[str] = ()) -> CfgNode | str:
    """What loading gives: the configuration, or the text of its ConfigError."""
    try:
        return load_experiment(path, (), overrides, root=path.parent)
    except ConfigError as error:
        return str(error)


def chain(folder: Path, length: int, bases: str) -> Path:
    """The top of `length` files on top of each other; `bases` says how a file names the next one."""
    for number in range(length):
        text = (
            "_BASE_: " + bases.format(f"f{number + 1}.yaml")
            if number + 1 < length
            else "RNG_SEED: 7"
        )
        write(folder, text, f"f{number}.yaml")
    return folder / "f0.yaml"


# --- bases ------------------------------------------------------------------------------------------------------


def test_a_base_is_found_relative_to_the_file_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "RNG_SEED: 1\nSOLVER: {MAX_EPOCH: 11}\n", "configs/base.yaml")
    write(tmp_path, "_BASE_: ../base.yaml\nSOLVER: {WARMUP_EPOCHS: 3}\n", "configs/models/m.yaml")
    experiment = write(
        tmp_path, "_BASE_: ../../configs/models/m.yaml\nRNG_SEED: 2\n", "exp_x/m/config.yaml"
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    changed = changed_from_defaults(load_experiment(experiment))
    assert changed == {"RNG_SEED": 2, "SOLVER.MAX_EPOCH": 11, "SOLVER.WARMUP_EPOCHS": 3.0}


def test_of_a_list_of_bases_the_later_wins_and_the_file_over_both(tmp_path: Path) -> None:
    write(tmp_path, "RNG_SEED: 1\nLOG_PERIOD: 1\nNUM_THREADS: 1\n", "a.yaml")
    write(tmp_path, "LOG_PERIOD: 2\nNUM_THREADS: 2\n", "b.yaml")
    cfg = load(tmp_path, "_BASE_: [a.yaml, b.yaml]\nNUM_THREADS: 3\n")
    assert (cfg.RNG_SEED, cfg.LOG_PERIOD, cfg.NUM_THREADS) == (1, 2, 3)
    swapped = load(tmp_path, "_BASE_: [b.yaml, a.yaml]\n")
    assert (swapped.LOG_PERIOD, swapped.NUM_THREADS) == (1, 1)


def test_two_bases_may_share_a_base(tmp_path: Path) -> None:
    write(tmp_path, "RNG_SEED: 5\n", "root.yaml")
    write(tmp_path, "_BASE_: root.yaml\nLOG_PERIOD: 1\n", "a.yaml")
    write(tmp_path, "_BASE_: root.yaml\nNUM_THREADS: 2\n", "b.yaml")
    assert load(tmp_path, "_BASE_: [a.yaml, b.yaml]\n").RNG_SEED == 5


@pytest.mark.parametrize("names", [["exp.yaml"], ["a.yaml"], ["a.yaml", "b.yaml"]])
def test_a_circle_of_bases_is_a_fault(tmp_path: Path, names: list[str]) -> None:
    for name, following in zip(names, [*names[1:], "exp.yaml"], strict=True):
        if name != "exp.yaml":
            write(tmp_path, f"_BASE_: ./{following}\n", name)
    [line] = faults(tmp_path, f"_BASE_: ./{names[0]}\n")
    assert "circle" in line
    assert all(name in line for name in names)


@pytest.mark.parametrize(
    "base",
    [
        "absent.yaml",
        ".",
        "sub",
        "~/x.yaml",
        "https://x.org/a.yaml",
        '"a\\0b.yaml"',
        "a" * 300 + ".yaml",
    ],
)
def test_a_base_that_is_not_there_is_a_fault(tmp_path: Path, base: str) -> None:
    (tmp_path / "sub").mkdir()
    [line] = faults(tmp_path, f"_BASE_: {base}\n")
    assert "_BASE_" in line
    assert "exp.yaml" in line


def test_a_base_outside_the_project_is_a_fault(tmp_path: Path) -> None:
    outside = write(tmp_path, "RNG_SEED: 1\n", "secret.yaml")
    project = tmp_path / "project"
    (project / "configs").mkdir(parents=True)
    os.symlink(outside, project / "link.yaml")
    for base in (
        "../secret.yaml",
        str(outside),
        "link.yaml",
        "configs/../../secret.yaml",
        "/etc/passwd",
    ):
        path = write(project, f"_BASE_: {base}\n")
        with pytest.raises(ConfigError, match=r"_BASE_ .* leads out of"):
            load_experiment(path)


def test_a_link_that_leads_to_itself_is_a_fault(tmp_path: Path) -> None:
    os.symlink("loop.yaml", tmp_path / "loop.yaml")
    [line] = faults(tmp_path, "_BASE_: loop.yaml\n")
    assert "loop.yaml" in line


@pytest.mark.parametrize("base", ["code.py", "data.json"])
def test_a_base_that_is_code_is_refused(tmp_path: Path, base: str) -> None:
    write(tmp_path, "RNG_SEED: 1\n", base)
    assert "not a .yaml" in faults(tmp_path, f"_BASE_: {base}\n")[0]


@pytest.mark.parametrize(
    ("length", "bases"), [(70, "{0}"), (9, "[{0}, {0}]")], ids=["deep", "doubling"]
)
def test_the_number_of_files_is_bounded(tmp_path: Path, length: int, bases: str) -> None:
    with pytest.raises(ConfigError, match="more than 64"):
        load_experiment(chain(tmp_path, length, bases), root=tmp_path)


def test_a_chain_within_the_bound_loads(tmp_path: Path) -> None:
    assert load_experiment(chain(tmp_path, 60, "{0}"), root=tmp_path).RNG_SEED == 7


# --- overlays and overrides -------------------------------------------------------------------------------------


def test_overlays_win_over_the_experiment_and_overrides_over_overlays(tmp_path: Path) -> None:
    write(
        tmp_path, "RNG_SEED: 2\nLOG_PERIOD: 2\nNUM_THREADS: 2\nDIST_TIMEOUT_SEC: 2\n", "under.yaml"
    )
    first = write(
        tmp_path,
        "_BASE_: under.yaml\nLOG_PERIOD: 3\nNUM_THREADS: 3\nDIST_TIMEOUT_SEC: 3\n",
        "first.yaml",
    )
    second = write(tmp_path, "NUM_THREADS: 4\nDIST_TIMEOUT_SEC: 4\n", "second.yaml")
    cfg = load(tmp_path, "RNG_SEED: 1\nDEVICE: cpu\n", ["DIST_TIMEOUT_SEC", "5"], [first, second])
    found = (cfg.DEVICE, cfg.RNG_SEED, cfg.LOG_PERIOD, cfg.NUM_THREADS, cfg.DIST_TIMEOUT_SEC)
    assert found == ("cpu", 2, 3, 4, 5)


def test_optional_keys_are_left_out_where_they_have_no_effect(tmp_path: Path) -> None:
    overlay = write(
        tmp_path,
        "_OPTIONAL_: TRAIN.EPOCH_LENGTH\nTRAIN: {EPOCH_LENGTH: labelled}\n",
        "over.yaml",
    )
    assert load(tmp_path, "", [], [overlay]).TRAIN.EPOCH_LENGTH == "pseudo"
    with_labels = ["DATA.PSEUDO_CSV", "pseudo/a.csv"]
    assert load(tmp_path, "", with_labels, [overlay]).TRAIN.EPOCH_LENGTH == "labelled"
    # What a later place sets is the user's own wish.
    with pytest.raises(ConfigError, match=r"EPOCH_LENGTH: has no effect unless"):
        load(tmp_path, "", ["TRAIN.EPOCH_LENGTH", "both"], [overlay])


@pytest.mark.parametrize("text", ["_OPTIONAL_: RNG_SEED\n", "_OPTIONAL_: 3\n"])
def test_optional_names_keys_of_its_file(tmp_path: Path, text: str) -> None:
    assert "_OPTIONAL_" in faults(tmp_path, text)[0]


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["SOLVER.MAX_EPOCH=3"], "SOLVER.MAX_EPOCH=3: .* write SOLVER.MAX_EPOCH 3$"),
        (["RNG_SEED", "1", "LOG_PERIOD=2"], "LOG_PERIOD=2: .* write LOG_PERIOD 2$"),
        (["RNG_SEED=1", "LOG_PERIOD=2"], "RNG_SEED=1: .* write RNG_SEED 1$"),
        (["OUTPUT_DIR=a b"], "write OUTPUT_DIR 'a b'$"),
        (["RNG_SEED"], "RNG_SEED: overrides are KEY VALUE pairs, this one has no partner"),
    ],
)
def test_key_equals_value_says_how_to_write_it(
    tmp_path: Path, overrides: list[str], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        load(tmp_path, "", overrides)


def test_a_value_may_hold_an_equals_sign(tmp_path: Path) -> None:
    assert load(tmp_path, "", ["OUTPUT_DIR", "runs/lr=3"]).OUTPUT_DIR == "runs/lr=3"


def test_a_home_folder_is_put_in_place_of_its_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    cfg = load(tmp_path, "DATA: {PATH_PREFIX: ~/clips}\n", ["OUTPUT_DIR", "~/runs"])
    assert (cfg.DATA.PATH_PREFIX, cfg.OUTPUT_DIR) == ("/home/me/clips", "/home/me/runs")


@pytest.mark.parametrize("key", ["NOTHING_LIKE_IT", "TRAIN.CUPBOARD", "MODEL.TASTE", "X.Y"])
def test_far_keys_are_not_suggested(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "", [key, "1"])
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("SOLVER.BASE_LR", "1e-3", 0.001),
        ("SOLVER.WARMUP_EPOCHS", "2", 2.0),
        ("TRAIN.VAL_SPLITS", "arid", ["arid"]),
        ("TRAIN.VAL_SPLITS", "[arid, val_dry]", ["arid", "val_dry"]),
        ("TEST.NUM_SPATIAL_CROPS", "3", [3]),
        ("DATA.MEAN", "[0, 1, 0.5]", [0.0, 1.0, 0.5]),
        ("MVIT.DIM_MUL", "[[1, 2], [3, 4]]", [[1, 2.0], [3, 4.0]]),
        ("MVIT.POOL_Q_STRIDE", "[]", []),
        ("MIXUP.ENABLE", "False", False),
        ("TRAIN.CHECKPOINT_FILE_PATH", "", ""),
        ("TRAIN.CHECKPOINT_FILE_PATH", "a/b.pyth", "a/b.pyth"),
        ("AUG.AA_TYPE", "", ""),
    ],
)
def test_overrides_take_the_type_of_the_default(
    tmp_path: Path, key: str, text: str, value: object
) -> None:
    found = flatten(load(tmp_path, "", [key, text]))[key]
    assert repr(found) == repr(value)


def test_the_last_of_two_overrides_wins(tmp_path: Path) -> None:
    assert load(tmp_path, "", ["RNG_SEED", "1", "RNG_SEED", "2"]).RNG_SEED == 2


@pytest.mark.parametrize("text", ["runs/a #1", "runs/a: b", "[runs]"])
def test_a_path_of_the_command_line_is_never_cut_silently(tmp_path: Path, text: str) -> None:
    found = outcome(write(tmp_path, ""), ["OUTPUT_DIR", text])
    assert "OUTPUT_DIR" in found if isinstance(found, str) else text == found.OUTPUT_DIR


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["SOLVER.MAX_EPOCH"], "SOLVER.MAX_EPOCH"),
        (["SOLVER.MAX_EPOCH", "2", "RNG_SEED"], "RNG_SEED"),
        (["SOLVER.MAX_EPOCHS", "2"], "did you mean SOLVER.MAX_EPOCH?"),
        (["solver.max_epoch", "2"], "did you mean SOLVER.MAX_EPOCH?"),
        (["MAX_EPOCH", "2"], "did you mean SOLVER.MAX_EPOCH?"),
        (["SOLVER", "2"], "SOLVER is a section"),
        (["RNG_SEED.X", "2"], "RNG_SEED.X: unknown key"),
        (["", "2"], "unknown key"),
        ([".", "2"], "unknown key"),
        (["_BASE_", "a.yaml"], "_BASE_: unknown key"),
        (["COMPUTED_X", "1"], "COMPUTED_X: unknown key"),
        (["RNG_SEED", "2.5"], "RNG_SEED: expected a whole number"),
        (["RNG_SEED", "None"], "RNG_SEED: expected a whole number"),
        (["RNG_SEED", "!!bool x"], "RNG_SEED: "),
        (["RNG_SEED", "!!python/name:os.system"], "RNG_SEED: "),
        (["SOLVER.BASE_LR", ".nan"], "SOLVER.BASE_LR: "),
        (["SOLVER.BASE_LR", "1" + "0" * 400], "SOLVER.BASE_LR: "),
        (["DATA.MEAN", "[" * 600 + "]" * 600], "DATA.MEAN: "),
    ],
)
def test_a_wrong_override_is_a_fault_of_the_command_line(
    tmp_path: Path, overrides: list[str], named: str
) -> None:
    [line] = faults(tmp_path, "", overrides)
    assert line.startswith("command line: ")
    assert named in line


def test_faults_of_files_overlays_and_overrides_come_together(tmp_path: Path) -> None:
    base = write(tmp_path, "# base\nRNG_SEED: x\n", "base.yaml")
    overlay = write(tmp_path, "DATA:\n  NUM_FRAME: 8\n", "overlay.yaml")
    experiment = write(tmp_path, "_BASE_: base.yaml\nSOLVER:\n  MAX_EPOCH: 2.5\n  BASE_LR: high\n")
    with pytest.raises(ConfigError) as caught:
        load_experiment(experiment, [overlay], ["LOG_PERIOD", "often"], root=tmp_path)
    expected = [
        f"{base}:2: RNG_SEED: ",
        f"{experiment}:3: SOLVER.MAX_EPOCH: ",
        f"{experiment}:4: SOLVER.BASE_LR: ",
        f"{overlay}:2: DATA.NUM_FRAME: unknown key; did you mean DATA.NUM_FRAMES?",
        "command line: LOG_PERIOD: ",
    ]
    lines = str(caught.value).splitlines()
    assert len(lines) == len(expected)
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(start)


# --- what was loaded --------------------------------------------------------------------------------------------


def test_a_loaded_configuration_is_frozen(tmp_path: Path) -> None:
    cfg = load(tmp_path)
    for node, name in (
        (cfg, "RNG_SEED"),
        (cfg, "NEW"),
        (cfg.SOLVER, "MAX_EPOCH"),
        (cfg.SOLVER, "NEW"),
    ):
        with pytest.raises(AttributeError):
            setattr(node, name, 1)


def test_defaults_are_valid_and_fresh_each_time(tmp_path: Path) -> None:
    assert changed_from_defaults(load(tmp_path)) == {}
    touched = get_cfg()
    touched.DATA.MEAN[0] = 9.0
    touched.MVIT.DIM_MUL[0][0] = 9
    touched.MODEL.CLASS_NAMES.append("Fly")
    assert get_cfg() == load(tmp_path)


def reloaded(folder: Path, cfg: CfgNode) -> CfgNode:
    return load_experiment(write(folder, dump(cfg), "dumped.yaml"), root=folder)


def typed(cfg: CfgNode) -> dict[str, str]:
    return {key: repr(value) for key, value in flatten(cfg).items()}


def test_a_dumped_configuration_loads_back(tmp_path: Path) -> None:
    overrides = [
        "SOLVER.BASE_LR",
        "3e-7",
        "SOLVER.CLIP_GRAD_L2NORM",
        "1e30",
        "MVIT.DIM_MUL",
        "[]",
        "AUG.AA_TYPE",
        "",
    ]
    cfg = load(tmp_path, "DATA: {MEAN: [0, 1, 1e-9]}\n", overrides)
    assert len(changed_from_defaults(cfg)) == 5
    assert typed(reloaded(tmp_path, cfg)) == typed(cfg)
    assert dump(reloaded(tmp_path, cfg)) == dump(cfg)


LOOKS_LIKE_NUMBERS = ["1e5", "1E-3", ".5e1", "7", "0.5", "0x1", "1:30", "2001-12-14"]
LOOKS_LIKE_YAML = [
    "True",
    "null",
    "~",
    "<<",
    "=",
    " ",
    "a #b",
    "a\x85b",
    "a\u2028b",
    "\ufeffa",
    "a\r\nb",
    "夜",
]


@pytest.mark.parametrize("text", LOOKS_LIKE_NUMBERS + LOOKS_LIKE_YAML)
def test_text_that_looks_like_something_else_loads_back_as_text(tmp_path: Path, text: str) -> None:
    cfg = get_cfg()
    cfg.OUTPUT_DIR = text
    assert text == reloaded(tmp_path, cfg).OUTPUT_DIR


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(),
    texts=st.lists(st.text()),
    number=st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_text_and_number_is_read_back_from_a_dump(
    folder: Path, text: str, texts: list[str], number: float
) -> None:
    cfg = CfgNode(
        {"SECTION": {"TEXT": text, "TEXTS": texts, "NUMBER": number, "ROWS": [[1, number], []]}}
    )
    read = read_yaml(write(folder, dump(cfg), "dumped.yaml")).values
    assert {name: repr(value) for name, value in read.items()} == typed(cfg)


# --- hash -------------------------------------------------------------------------------------------------------


def test_the_hash_depends_on_values_and_not_on_how_they_were_given(tmp_path: Path) -> None:
    first = load(tmp_path, "SOLVER: {MAX_EPOCH: 30, WEIGHT_DECAY: 1}\nRNG_SEED: 3\n")
    pairs = [["RNG_SEED", "3"], ["SOLVER.WEIGHT_DECAY", "1.0"], ["SOLVER.MAX_EPOCH", "30"]]
    random.Random(0).shuffle(pairs)
    second = load(tmp_path, "RNG_SEED: 9\n", [item for pair in pairs for item in pair])
    assert config_hash(first) == config_hash(second) == config_hash(reloaded(tmp_path, first))
    assert config_hash(first) != config_hash(load(tmp_path))
    assert len(config_hash(first)) == 16
    assert int(config_hash(first), 16) >= 0


def test_the_hash_is_the_same_in_another_process() -> None:
    code = (
        "from nightcrawler.config.node import get_cfg; from nightcrawler.config.node import config_hash;"
        "print(config_hash(get_cfg()))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == config_hash(get_cfg())


def test_the_hash_of_a_run_sees_every_key_but_those_of_the_machine() -> None:
    machine = [
        key
        for key in KEYS
        if any(key == name or key.startswith(f"{name}.") for name in MACHINE_KEYS)
    ]
    assert {"OUTPUT_DIR", "DEVICE", "DATA_LOADER.NUM_WORKERS", "DATA.PATH_PREFIX"} <= set(machine)
    assert all(
        name in KEYS or any(key.startswith(f"{name}.") for key in KEYS) for name in MACHINE_KEYS
    )
    for key in KEYS:
        others = [other for other in KEYS if other != key]
        cfg = get_cfg()
        *sections, name = key.split(".")
        node: Any = cfg[sections[0]] if sections else cfg
        node[name] = "another value"
        changes = config_hash(cfg, [*MACHINE_KEYS, *others]) != config_hash(
            get_cfg(), [*MACHINE_KEYS, *others]
        )
        assert changes == (key not in machine), key


# --- fuzz -------------------------------------------------------------------------------------------------------


def loads_or_config_error(folder: Path, content: bytes) -> None:
    path = folder / "fuzz.yaml"
    path.write_bytes(content)
    found = outcome(path)
    if isinstance(found, str):
        assert found.strip()
    else:
        assert typed(reloaded(folder, found)) == typed(found)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner)
    ),
    max_leaves=6,
)
sections = st.dictionaries(
    st.sampled_from([key.split(".")[-1] for key in KEYS]), values, max_size=3
)
documents = st.dictionaries(
    st.sampled_from([*get_cfg(), *KEYS, "_BASE_"]), sections | values, max_size=4
)
tags = [
    f"!!{kind} "
    for kind in ("int", "bool", "float", "null", "seq", "map", "str", "python/name:os.system")
]
marks = [
    *"[]{}'\"\n",
    ": ",
    "  ",
    "- ",
    ", ",
    "? ",
    "| ",
    "# ",
    "&a ",
    "*a",
    "<<",
    "~",
    "1",
    "-1",
    "0x",
    "1:0",
    "1e9",
]
fragments = st.sampled_from([*KEYS, *get_cfg(), "_BASE_", *tags, *marks])


@settings(max_examples=200, deadline=None)
@given(content=st.text() | st.lists(fragments, max_size=12).map("".join))
def test_any_text_loads_or_is_a_config_error(folder: Path, content: str) -> None:
    loads_or_config_error(folder, content.encode())


@settings(max_examples=20, deadline=None)
@given(content=st.binary(max_size=60))
def test_any_bytes_load_or_are_a_config_error(folder: Path, content: bytes) -> None:
    loads_or_config_error(folder, content)


@settings(max_examples=80, deadline=None)
@given(document=documents)
def test_any_mapping_loads_or_is_a_config_error(folder: Path, document: dict[str, Any]) -> None:
    loads_or_config_error(folder, yaml.safe_dump(document).encode())


@settings(max_examples=150, deadline=None)
@given(key=st.sampled_from(KEYS), value=values)
def test_any_value_of_a_key_loads_or_is_a_config_error_that_names_the_key(
    folder: Path, key: str, value: Any
) -> None:
    path = folder / "fuzz.yaml"
    path.write_text(
        f"{key}: {yaml.safe_dump(value, default_flow_style=True, width=10**6)}", encoding="utf-8"
    )
    found = outcome(path)
    assert not isinstance(found, str) or key in found or "not YAML" in found
