"""A run goes on though its record holds keys that are refused by now, since they change nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightcrawler.config.identity import is_of_same_run, run_hash
from nightcrawler.config.load import load_experiment
from nightcrawler.config.node import dump, set_value

WEIGHTLESS = ("DATA.PSEUDO_CSV", "p.csv", "TRAIN.PSEUDO_WEIGHT", "0")


@pytest.mark.parametrize(
    ("settings", "idle"),
    [
        ((), {"ENHANCE.TRAIN": "clahe", "ENHANCE.CLAHE_CLIP": 8.0}),
        (WEIGHTLESS, {"ENHANCE.TRAIN": "gamma"}),
        (WEIGHTLESS, {"TRAIN.JOINT_STEP": True}),
        (WEIGHTLESS, {"TRAIN.BALANCE_PSEUDO": True, "TRAIN.BALANCE_MAX_REPEATS": 3}),
    ],
)
def test_a_record_with_idle_keys_is_of_the_same_run(
    tmp_path: Path, settings: tuple[str, ...], idle: dict[str, object]
) -> None:
    path = tmp_path / "exp.yaml"
    path.touch()
    now = load_experiment(path, (), settings)
    record = now.clone()
    record.defrost()
    for key, value in idle.items():
        set_value(record, key, value)
    assert is_of_same_run(dump(record), path, run_hash(now))
    set_value(record, "ENHANCE.VAL", "clahe")
    assert not is_of_same_run(dump(record), path, run_hash(now))
