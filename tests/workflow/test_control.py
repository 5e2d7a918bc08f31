"""The control of a round takes as many optimiser steps, without pseudo-labels, and adapts as often."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.config.load import load_experiment
from nightcrawler.config.schema.conditions import value_of
from nightcrawler.workflow import control
from nightcrawler.workflow.experiment import build_settings_without_pseudo
from tests import tiny
from tests.paths import ROOT

EPOCHS, BATCH, NUM_PSEUDO = 6, 2, 9
WEIGHTLESS = ("TRAIN.PSEUDO_WEIGHT", "0", "TRAIN.BALANCE_PSEUDO", "False")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight labelled clips beside four for validation, nine pseudo-labelled ones."""
    folder = tiny.build_data(tmp_path_factory.mktemp("data"))
    tiny.write_pseudo(folder, NUM_PSEUDO)
    return folder


def arguments(data: Path, out: Path, *overrides: str) -> list[str]:
    """Of a round of six epochs, validated after every second one."""
    keys = (
        "TRAIN.BATCH_SIZE",
        str(BATCH),
        "SOLVER.MAX_EPOCH",
        str(EPOCHS),
        "SOLVER.WARMUP_EPOCHS",
        "3",
    )
    every = ("TRAIN.EVAL_PERIOD", "2", "MODEL.PSEUDO_LOSS", "soft", "TRAIN.PSEUDO_WEIGHT", "0.5")
    return tiny.arguments(data, out, *keys, *every, *overrides, experiment=tiny.PSEUDO_EXPERIMENT)


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        # A pass over nine pseudo-labelled clips in batches of two, a step on each of the two streams.
        ((), EPOCHS * (NUM_PSEUDO // BATCH) * 2),
        (("TRAIN.JOINT_STEP", "True"), EPOCHS * (NUM_PSEUDO // BATCH)),
        (("TRAIN.EPOCH_LENGTH", "labelled"), EPOCHS * (tiny.NUM_TRAIN // BATCH) * 2),
        # A stream without weight takes no step, and has no loss.
        (
            (*WEIGHTLESS, "MODEL.PSEUDO_LOSS", "hard"),
            EPOCHS * (NUM_PSEUDO // BATCH),
        ),
    ],
)
def test_steps_are_equal(
    data: Path, tmp_path: Path, overrides: tuple[str, ...], steps: int
) -> None:
    _, experiment, _, overlay, *settings = arguments(data, tmp_path / "out", *overrides)
    files = [Path(experiment), Path(overlay)]
    equal = load_experiment(
        files[0], files[1:], [*settings, *control.build_equal_steps(files, settings)]
    )
    per_epoch = tiny.NUM_TRAIN // BATCH
    assert steps <= equal.SOLVER.MAX_EPOCH * per_epoch < steps + per_epoch
    assert equal.DATA.PSEUDO_CSV == ""
    scale = equal.SOLVER.MAX_EPOCH / EPOCHS
    assert pytest.approx(3 * scale) == equal.SOLVER.WARMUP_EPOCHS
    assert round(2 * scale) == equal.TRAIN.EVAL_PERIOD
    before = load_experiment(files[0], files[1:], settings)
    assert equal.ENHANCE.TRAIN == "none"
    for section in ("ADAPT", "BN", "ENHANCE.ADAPT", "ENHANCE.TEST", "AUG", "DATA.EXCLUDE_VAL"):
        name, _, key = section.partition(".")
        assert (equal[name][key] if key else equal[name]) == (
            before[name][key] if key else before[name]
        )


DARKENED = ("AUG.DARKEN", "0.5", "TRAIN.BEST_SPLIT", "val_dry", "TRAIN.VAL_SPLITS", "[val_dry]")
# No other phase uses clahe.
CLAHE = ("ENHANCE.TRAIN", "clahe", "ENHANCE.CLAHE_CLIP", "8.0")


@pytest.mark.parametrize(
    ("overrides", "kept", "left_out"),
    [
        (("ENHANCE.GAMMA", "0.4"), {"ENHANCE.GAMMA": 0.4}, {"ENHANCE.TRAIN": "none"}),
        (CLAHE, {"ENHANCE.GAMMA": 0.25}, {"ENHANCE.TRAIN": "none", "ENHANCE.CLAHE_CLIP": 24.0}),
        # The darkened clips of the labelled stream are lit in the control too.
        (DARKENED, {"ENHANCE.TRAIN": "gamma", "AUG.DARKEN": 0.5}, {}),
        (WEIGHTLESS, {"ENHANCE.GAMMA": 0.25}, {"TRAIN.PSEUDO_WEIGHT": 1.0}),
        (
            ("TRAIN.BALANCE_MAX_REPEATS", "3", "TRAIN.JOINT_STEP", "True"),
            {},
            {"TRAIN.BALANCE_MAX_REPEATS": 10, "TRAIN.JOINT_STEP": False},
        ),
    ],
)
def test_a_control_leaves_out_what_has_no_effect_without_pseudo_labels_and_no_more(
    tmp_path: Path, overrides: tuple[str, ...], kept: dict[str, Any], left_out: dict[str, Any]
) -> None:
    path, file = ROOT / tiny.PSEUDO_EXPERIMENT / "config.yaml", tiny.overlay(tmp_path)
    without = build_settings_without_pseudo([path, file], overrides)
    control_cfg = load_experiment(path, [file], [*overrides, *without])
    assert control_cfg.DATA.PSEUDO_CSV == ""
    for key, value in {**kept, **left_out}.items():
        assert value_of(control_cfg, key) == value, key
    assert not set(kept) & set(without[::2])


def test_a_control_stops_no_earlier_and_thaws_as_late(data: Path, tmp_path: Path) -> None:
    rules = ("SOLVER.LR_FACTORS", '["head.*=10@1", "blocks.*=0.5"]')
    _, experiment, _, overlay, *settings = arguments(
        data, tmp_path / "out", "TRAIN.EARLY_STOP", "2", *rules
    )
    files = [Path(experiment), Path(overlay)]
    equal = load_experiment(
        files[0], files[1:], [*settings, *control.build_equal_steps(files, settings)]
    )
    assert equal.TRAIN.EARLY_STOP == 0
    scale = equal.SOLVER.MAX_EPOCH / EPOCHS
    assert list(equal.SOLVER.LR_FACTORS) == [f"head.*=10@{scale:g}", "blocks.*=0.5"]


def test_it_becomes_the_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = arguments(data, tmp_path / "out")
    became: list[list[str]] = []
    monkeypatch.setattr(
        control.os, "execv", lambda program, command: became.append([program, *command])
    )
    assert control.main(["1", *given]) == 0
    ((program, *command),) = became
    assert program == sys.executable
    start = [sys.executable, "-m", "nightcrawler", "train", *given]
    assert command[: len(start)] == start
    assert command[len(start) :][:2] == ["DATA.PSEUDO_CSV", ""]


def test_several_processes_go_through_the_launcher(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(control.os, "execv", lambda program, command: became.append(command))
    control.main(["2", *arguments(data, tmp_path / "out")])
    at = became[0].index("nightcrawler.engine.launch")
    assert became[0][at : at + 4] == [
        "nightcrawler.engine.launch",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
