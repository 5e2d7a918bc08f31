"""Files of torch.save: a flipped bit, and a pickle that never ends."""

from __future__ import annotations

import pickle as p
import zipfile
from pathlib import Path

import pytest
import torch

from nightcrawler.engine.checkpoint_files import load_checkpoint
from nightcrawler.models.formats import read_weights
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.torch_files import check_torch_file

STATE = {"model_state": {"a.weight": torch.arange(400.0).reshape(20, 20), "a.bias": torch.ones(20)}}
# A dict whose key is a tuple of one tuple twice, sixty levels deep.
TWICE = p.BINGET + b"\1" + p.TUPLE2 + p.BINPUT + b"\1"
KEY = p.BININT1 + b"\1" + p.BINPUT + b"\1" + TWICE * 60
BOMB = p.PROTO + b"\2" + p.EMPTY_DICT + KEY + p.NONE + p.SETITEM + p.STOP


@pytest.mark.parametrize("legacy", [False, True])
def test_whole_files_pass(tmp_path: Path, legacy: bool) -> None:
    torch.save(STATE, tmp_path / "a.pyth", _use_new_zipfile_serialization=not legacy)
    check_torch_file(tmp_path / "a.pyth")
    found = load_checkpoint(tmp_path / "a.pyth")["model_state"]["a.weight"]
    assert torch.equal(found, STATE["model_state"]["a.weight"])


def test_a_flipped_bit_without_a_sidecar_is_found(tmp_path: Path) -> None:
    path = tmp_path / "best.pyth"
    torch.save(STATE, path)
    content = bytearray(path.read_bytes())
    place = content.index(torch.arange(400.0).numpy().tobytes())
    content[place + 403] ^= 1
    path.write_bytes(content)
    for read in (read_weights, load_checkpoint):
        with pytest.raises(UserError, match=r"best\.pyth: damaged: .*data/0"):
            read(path)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("container", [False, True])
def test_a_key_that_hashes_for_ever_is_refused(tmp_path: Path, container: bool) -> None:
    path = tmp_path / "bomb.pyth"
    path.write_bytes(BOMB)
    if container:
        torch.save(STATE, tmp_path / "whole.pyth")
        whole = tmp_path / "whole.pyth"
        with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
            for name in source.namelist():
                pkl = name.endswith("data.pkl")
                target.writestr(name, BOMB if pkl else source.read(name))
    for read in (read_weights, load_checkpoint):
        with pytest.raises(UserError, match=r"bomb\.pyth: refused: values in it are nested"):
            read(path)
