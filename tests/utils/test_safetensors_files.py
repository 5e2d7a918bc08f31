"""Safetensors files hold a checksum of their content: one wrong byte is one line, a file without is read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file

from nightcrawler.data.lowlight.enhance.zero_dce import DCENet, load_dce_net
from nightcrawler.models.formats import read_weights
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.project import packaged_root
from nightcrawler.utils.safetensors_files import CHECKSUM, check_safetensors, safetensors_bytes

ABOUT = {"labels": "label-free", "cfg": 'A: 1\nB: "é"\n'}
DAMAGED = "damaged: its content does not match its own checksum; get the file again"
DEMO_WEIGHTS = sorted((packaged_root() / "configs/demo_weights").glob("*.safetensors"))


def state() -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(5)
    return {
        "b.weight": torch.randn(2, 3, generator=rng),
        "a.half": torch.randn(4, generator=rng).half(),
        "steps": torch.tensor(7),
    }


def split(content: bytes) -> tuple[dict[str, object], bytes]:
    """The header and the data of a file, by the format's own description."""
    start = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:start]), content[start:]


def test_the_checksum_is_of_the_header_without_it_and_the_data(tmp_path: Path) -> None:
    content = safetensors_bytes(state(), ABOUT)
    header, data = split(content)
    found = header["__metadata__"].pop(CHECKSUM)
    text = json.dumps(header, sort_keys=True).encode()
    assert found == hashlib.sha256(text + data).hexdigest()
    assert header["__metadata__"] == {"format": "pt", **ABOUT}
    assert (len(content) - len(data)) % 8 == 0
    assert content == safetensors_bytes(state(), ABOUT)


def test_others_read_the_same_tensors(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(safetensors_bytes(state(), ABOUT))
    check_safetensors(tmp_path / "a.safetensors")
    found = load_file(tmp_path / "a.safetensors")
    assert found.keys() == state().keys()
    assert all(torch.equal(value, state()[name]) for name, value in found.items())


def test_no_wrong_byte_is_read(tmp_path: Path) -> None:
    """Every byte in turn: refused by the checksum or by the format, or in the checksum's own name."""
    content = safetensors_bytes(state(), ABOUT)
    path = tmp_path / "a.safetensors"
    name = content.index(CHECKSUM.encode())
    unnoticed = []
    said = set()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        try:
            check_safetensors(path)
            load(bytes(damaged))
            unnoticed.append(place)
        except (UserError, SafetensorError) as error:
            said.add(str(error) if isinstance(error, UserError) else "")
    assert said == {f"{path}: {DAMAGED}", ""}
    assert unnoticed == list(range(name, name + len(CHECKSUM)))


@pytest.mark.parametrize("content", [b"", b"\xff" * 30, b"\x02" + b"\0" * 7 + b"[]", b"{}", b"\0"])
def test_what_is_no_such_file_is_left_to_the_reader(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    check_safetensors(tmp_path / "a.safetensors")


def test_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(state(), path)
    assert len(read_weights(path).state) == 3
    content = bytearray(safetensors_bytes(state(), ABOUT))
    path.write_bytes(content)
    assert read_weights(path).labels == "label-free"
    content[-3] ^= 64
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^{path}: {DAMAGED}$"):
        read_weights(path)


def test_weights_of_the_enhancement(tmp_path: Path) -> None:
    path = tmp_path / "dce.safetensors"
    content = bytearray(safetensors_bytes(DCENet().state_dict(), {}))
    path.write_bytes(content)
    load_dce_net(str(path))
    content[-3] ^= 64
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^zero_dce_weights {path}: damaged: .*; get Epoch99"):
        load_dce_net(str(path))


@pytest.mark.parametrize("path", DEMO_WEIGHTS, ids=lambda path: path.stem)
def test_weights_inside_the_package(path: Path) -> None:
    header, _ = split(path.read_bytes())
    assert CHECKSUM in header["__metadata__"]
    check_safetensors(path)
    described = json.loads(Path(f"{path}.json").read_text())
    assert described["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
