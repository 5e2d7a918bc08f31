"""Below the door, errors name arguments; what is built from a configuration names its keys."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nightcrawler.cli.net import next_command
from nightcrawler.config.load import load_experiment
from nightcrawler.config.node import dump
from nightcrawler.data.dataset import BadVideo
from nightcrawler.engine import checkpoint_files
from nightcrawler.engine.bad_videos import BadVideoLedger
from nightcrawler.engine.build import KEYS, build_trainer_config
from nightcrawler.engine.checkpointer import Checkpointer
from nightcrawler.engine.trainer_config import TrainerConfig
from nightcrawler.utils.errors import UserError
from tests import tiny

BAD = [
    BadVideo(f"{number}.mp4", "cut short", "decode", "error: cut short (decode)")
    for number in range(3)
]


def test_a_ledger_names_its_argument_or_the_key(tmp_path: Path) -> None:
    for names, said in (((), "max_fraction 0.1"), (("DATA.X",), "DATA.X 0.1")):
        ledger = BadVideoLedger(tmp_path / "bad.csv", 0.1, *names)
        ledger.add("labelled", 10, BAD)
        with pytest.raises(UserError, match=f"3 of 10 videos cannot be used, more than {said};"):
            ledger.sync()


def test_a_checkpointer_names_its_argument_or_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise checkpoint_files.SaveError("best.pyth: not saved (disk full)")

    monkeypatch.setattr(checkpoint_files, "save_checkpoint", full)
    for names, said in (((), "max_failed is 2"), (("TRAIN.X",), "TRAIN.X is 2")):
        checkpointer = Checkpointer(tmp_path, 1, 2, *names)
        assert not checkpointer.save_best(dict)
        with pytest.raises(UserError, match=f"2 saves in a row failed, {said}"):
            checkpointer.save_best(dict)


def test_keys_are_those_that_set_the_attributes(tmp_path: Path) -> None:
    cfg = tiny.config(tmp_path, tmp_path / "run", "DATA.MAX_BAD_FRACTION", 0.125)
    config = build_trainer_config(cfg, torch.device("cpu"), {}, 1.0)
    assert isinstance(config, TrainerConfig)
    for attribute, key in KEYS.items():
        section, _, name = key.rpartition(".")
        value = getattr(cfg[section], name) if section else getattr(cfg, name)
        assert str(getattr(config, attribute)) == str(value)
        assert config.user_name(attribute) == key
    assert config.user_name("seed") == "seed"


def test_the_next_command_tests_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    folder.mkdir()
    record = f"nightcrawler test --cfg '{folder}/resolved.yaml'"
    assert next_command(folder, "") == record
    (folder / "test.sh").touch()
    (folder / "config.yaml").write_text("RNG_SEED: 7\n")
    alone = load_experiment(folder / "config.yaml", defaults={"OUTPUT_DIR": str(folder)})
    assert next_command(folder, dump(alone)) == f"bash '{folder}/test.sh'"
    # Keys and overlays of the training, which the script does not know.
    changed = alone.clone()
    changed.defrost()
    changed.RNG_SEED = 5
    assert next_command(folder, dump(changed)) == record
