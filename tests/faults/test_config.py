"""Configurations as people get them wrong: one line an error with the key, at once, never a traceback."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightcrawler.config.load import load_experiment
from nightcrawler.config.node import flatten, get_cfg
from nightcrawler.utils.errors import ConfigError, UserError
from tests import tiny

pytestmark = pytest.mark.fault
MOST_SEC = 0.5
KEYS = sorted(flatten(get_cfg()))
# A line of a file, and the key that the error must name.
FIXED = [
    ("TRAIN: {BATCHSIZE: 8}", "TRAIN.BATCHSIZE"),
    ("TRAIN: {BATCH_SIZE: -1}", "TRAIN.BATCH_SIZE"),
    ("TRAIN: {BATCH_SIZE: 0}", "TRAIN.BATCH_SIZE"),
    ("TRAIN: {BATCH_SIZE: many}", "TRAIN.BATCH_SIZE"),
    ("TRAIN: {BATCH_SIZE: 1.5}", "TRAIN.BATCH_SIZE"),
    ("TRAIN: {BATCH_SIZE: [8]}", "TRAIN.BATCH_SIZE"),
    ("TRAIN: 8", "TRAIN"),
    ("TRIAN: {BATCH_SIZE: 8}", "TRIAN"),
    ("SOLVER: {BASE_LR: -0.1}", "SOLVER.BASE_LR"),
    ("SOLVER: {BASE_LR: .nan}", "SOLVER.BASE_LR"),
    ("SOLVER: {BASE_LR: .inf}", "SOLVER.BASE_LR"),
    ("SOLVER: {MAX_EPOCH: 0}", "SOLVER.MAX_EPOCH"),
    ("SOLVER: {OPTIMIZING_METHOD: adam}", "SOLVER.OPTIMIZING_METHOD"),
    ("SOLVER: {WARMUP_EPOCHS: 900.0}", "SOLVER.WARMUP_EPOCHS"),
    ("MODEL: {NAME: 5}", "MODEL.NAME"),
    ("MODEL: {NUM_CLASSES: 3}", "MODEL.CLASS_NAMES"),
    ("MODEL: {PRECISION: fp8}", "MODEL.PRECISION"),
    ("MODEL: {PSEUDO_LOSS: soft}", "MODEL.PSEUDO_LOSS"),
    ("DATA: {SAMPLING: random}", "DATA.SAMPLING"),
    ("DATA: {NUM_FRAMES: 0}", "DATA.NUM_FRAMES"),
    ("DATA: {STD: [0.2, 0.0, 0.2]}", "DATA.STD"),
    ("ENHANCE: {TEST: bright}", "ENHANCE.TEST"),
    ("AUG: {SCALE: [1.0, 0.1]}", "AUG.SCALE"),
    ("ADAPT: {NAME: dropout}", "ADAPT.NAME"),
    ("TEST: {NUM_SPATIAL_CROPS: [2]}", "TEST.NUM_SPATIAL_CROPS"),
]


def complaint(text: str) -> str:
    """What loading a file with this text says; empty where it loads. It takes little time either way."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exp.yaml"
        path.write_text(text, encoding="utf-8")
        start = time.process_time()
        try:
            load_experiment(path)
        except (ConfigError, UserError) as error:
            return str(error)
        finally:
            assert time.process_time() - start < MOST_SEC
    return ""


@pytest.mark.parametrize(("text", "key"), FIXED, ids=lambda value: value)
def test_a_fault_names_its_key(text: str, key: str) -> None:
    found = complaint(text)
    assert found
    assert [line for line in found.splitlines() if key not in line] == [], (
        "its consequences name it too"
    )
    assert "exp.yaml" in found or found.startswith("default: ")
    assert "Traceback" not in found


def test_a_process_says_so_at_once(tmp_path: Path) -> None:
    """Before it has loaded anything large; counted is the time of the processor, which other programs do not change."""
    path = tmp_path / "exp.yaml"
    path.write_text("TRAIN: {BATCH_SIZE: many}\n")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = tiny.run_tool("run_net.py", "train", "--cfg", str(path))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    fault = "TRAIN.BATCH_SIZE: expected a whole number, found text 'many'"
    assert (process.returncode, process.stderr) == (2, f"error: {path}:1: {fault}\n")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < MOST_SEC


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.lists(st.one_of(st.integers(), st.floats(), st.text(max_size=4)), max_size=5),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)


@given(st.sampled_from(KEYS), VALUES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_of_any_key_loads_or_is_named(key: str, value: Any) -> None:
    nested: Any = value
    for name in reversed(key.split(".")):
        nested = {name: nested}
    found = complaint(yaml.safe_dump(nested, allow_unicode=True))
    assert not found or key in found


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_loads_or_is_a_fault_of_the_file(text: str) -> None:
    found = complaint(text)
    assert not found or "exp.yaml" in found
