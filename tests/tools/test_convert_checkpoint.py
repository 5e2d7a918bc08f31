"""`tools/convert_checkpoint.py`: what it shows, what it writes, and what it refuses."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from nightcrawler.config.load import load_experiment
from nightcrawler.config.node import dump
from nightcrawler.engine.checkpoint_files import load_checkpoint, verify
from nightcrawler.models.build import build_model
from nightcrawler.models.formats import read_weights
from nightcrawler.models.mvit import MViT
from nightcrawler.models.mvit_layout import MViTLayout
from nightcrawler.models.pretrained import load_pretrained
from nightcrawler.utils import command_line
from nightcrawler.utils.io import sha256_file
from tests import tiny
from tests.models.public_files import named, pyslowfast, pytorchvideo_mvit, split_attention

NAMES = ["Run", "Sit", "Wave"]
CONFIG = """\
MODEL: {NAME: mvit, NUM_CLASSES: 3, CLASS_NAMES: [Wave, Run, Sit]}
DATA: {NUM_FRAMES: 8, TRAIN_CROP_SIZE: 32, TEST_CROP_SIZE: 32}
ADAPT: {NAME: none}
MVIT:
  DEPTH: 2
  EMBED_DIM: 8
  DIM_MUL: [[1, 2.0]]
  HEAD_MUL: [[1, 2.0]]
  POOL_Q_STRIDE: [[1, 1, 2, 2]]
  POOL_KV_STRIDE_ADAPTIVE: [1, 2, 2]
"""
LAYOUT = MViTLayout(
    depth=2,
    embed_dim=8,
    dim_mul=((1, 2.0),),
    head_mul=((1, 2.0),),
    q_stride=((1, 1, 2, 2),),
    kv_stride_adaptive=(1, 2, 2),
)


def mvit(num_frames: int = 4) -> MViT:
    return MViT(3, num_frames=num_frames, size=32, layout=LAYOUT)


def convert(*argv: Any) -> int:
    return command_line.run(tiny.load_tool("convert_checkpoint").main, list(map(str, argv)))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A checkpoint of a run, with classes and configuration."""
    path = tmp_path / "best.pyth"
    about = {
        "class_names": NAMES,
        "cfg": "MODEL: {NAME: mvit}\n",
        "config_hash": "ab12",
        "epoch": 3,
    }
    torch.save(
        {"model_state": mvit().state_dict(), "optimizer_state": {"state": {}}, **about}, path
    )
    return path


def test_inspect_prints_what_a_file_holds(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(own, "--inspect") == 0
    state, shown = mvit().state_dict(), capsys.readouterr().out
    lines = dict(line.split(maxsplit=1) for line in shown.splitlines()[1:])
    assert shown.startswith(f"{own}\n")
    assert lines["format"] == "PySlowFast MViT"
    assert lines["model"] == "mvit"
    assert lines["tensors"] == str(len(state))
    assert lines["values"] == f"{sum(value.numel() for value in state.values()):,}"
    assert lines["classes"] == "3: Run, Sit, Wave"
    assert lines["sha256"] == sha256_file(own)
    assert sorted(path.name for path in own.parent.iterdir()) == ["best.pyth"]


def test_inspect_says_what_a_file_does_not_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"w": torch.ones(3)}, tmp_path / "a.pth")
    assert convert(tmp_path / "a.pth", "--inspect") == 0
    shown = capsys.readouterr().out
    assert "names of no known format" in shown
    assert shown.count("not said") == 3


@pytest.mark.parametrize("suffix", [".safetensors", ".pyth"])
def test_weights_alone_are_written_and_load_again(own: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / "new" / f"weights{suffix}"
    assert convert(own, "--to", out) == 0
    before, after = read_weights(own), read_weights(out)
    assert tiny.differences(dict(before.state), dict(after.state)) == []
    for field in ("class_names", "config_text", "config_hash"):
        assert getattr(before, field) == getattr(after, field) != ""
    model = mvit()
    report = load_pretrained(model, out, class_names=NAMES, complete=True)
    assert (report.converted, report.notes) == ({}, [])
    written = json.loads((tmp_path / "new" / f"weights{suffix}.json").read_text())
    assert written["sha256"] == sha256_file(out)
    assert written["source"] == {"file": "best.pyth", "sha256": sha256_file(own)}
    assert written["classes"] == NAMES
    assert written["tensors"] == len(before.state)


def test_what_is_written_is_plain(own: Path, tmp_path: Path) -> None:
    convert(own, "--to", tmp_path / "a.pyth")
    verify(tmp_path / "a.pyth")
    assert set(load_checkpoint(tmp_path / "a.pyth")) == {
        "model_state",
        "class_names",
        "cfg",
        "config_hash",
    }
    convert(own, "--to", tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["class_names"]) == NAMES
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_public_names_become_ours(tmp_path: Path) -> None:
    state = split_attention(mvit().state_dict())
    torch.save({"model_state": named(state, pytorchvideo_mvit)}, tmp_path / "hub.pyth")
    assert convert(tmp_path / "hub.pyth", "--to", tmp_path / "a.safetensors") == 0
    assert tiny.differences(read_weights(tmp_path / "a.safetensors").state, state) == []


def test_tensors_that_share_memory_are_written_one_by_one(tmp_path: Path) -> None:
    base = torch.arange(12.0)
    state = {
        "a": base[:6],
        "b": base[3:9],
        "c": base.reshape(3, 4).T,
        "d": torch.ones(()).expand(5),
    }
    torch.save(state, tmp_path / "a.pth")
    assert convert(tmp_path / "a.pth", "--to", tmp_path / "a.safetensors") == 0
    assert tiny.differences(read_weights(tmp_path / "a.safetensors").state, state) == []


def test_with_an_experiment_weights_are_fitted_to_its_model(own: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    out = tmp_path / "fitted.safetensors"
    assert convert(own, "--to", out, "--cfg", tmp_path / "config.yaml") == 0
    found, given = read_weights(out), read_weights(own)
    assert found.class_names == ("Wave", "Run", "Sit")
    assert "EMBED_DIM: 8" in found.config_text
    assert torch.equal(
        found.state["head.projection.bias"], given.state["head.projection.bias"][[2, 0, 1]]
    )
    assert found.state["pos_embed_temporal"].shape == (1, 4, 8)
    report = load_pretrained(
        mvit(num_frames=8), out, class_names=["Wave", "Run", "Sit"], complete=True
    )
    assert report.converted == {}


@pytest.mark.parametrize("wrapper", ["PROBE: linear", "LORA_RANK: 4"])
def test_entries_of_wrapped_models_have_their_plain_names(
    wrapper: str, own: Path, tmp_path: Path
) -> None:
    """The file is that of the same experiment without the wrapper, entry by entry."""
    if "LORA" in wrapper:
        pytest.importorskip("peft", reason="the extra lora is not installed")
    found = []
    for name, config in (("plain", CONFIG), ("wrapped", CONFIG.replace("{", f"{{{wrapper}, ", 1))):
        (tmp_path / f"{name}.yaml").write_text(config)
        out = tmp_path / f"{name}.safetensors"
        assert convert(own, "--to", out, "--cfg", tmp_path / f"{name}.yaml") == 0
        found.append(read_weights(out))
    plain, wrapped = (file.state for file in found)
    assert plain.keys() == wrapped.keys()
    assert all(torch.equal(plain[name], wrapped[name]) for name in plain)


def test_adapters_of_another_scale_are_not_written(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("peft", reason="the extra lora is not installed")
    configs = []
    for alpha in (8, 32):
        configs.append(tmp_path / f"{alpha}.yaml")
        keys = f"LORA_RANK: 4, LORA_ALPHA: {alpha}, "
        configs[-1].write_text(CONFIG.replace("{", f"{{{keys}", 1))
    model = build_model(load_experiment(configs[0]))
    content = {"model_state": model.state_dict(), "cfg": dump(load_experiment(configs[0]))}
    torch.save(content, tmp_path / "adapted.pyth")
    out = tmp_path / "out.safetensors"
    assert convert(tmp_path / "adapted.pyth", "--to", out, "--cfg", configs[1]) == 2
    assert "MODEL.LORA_ALPHA 8" in capsys.readouterr().err
    assert not out.exists()
    assert convert(tmp_path / "adapted.pyth", "--to", out, "--cfg", configs[0]) == 0


def test_a_classifier_that_does_not_fit_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    torch.save(
        pyslowfast(MViT(7, num_frames=8, size=32, layout=LAYOUT).state_dict()),
        tmp_path / "k.pyth",
    )
    assert (
        convert(tmp_path / "k.pyth", "--to", tmp_path / "a.pyth", "--cfg", tmp_path / "config.yaml")
        == 0
    )
    found = read_weights(tmp_path / "a.pyth")
    assert found.class_names == ()
    assert [name for name in found.state if name.startswith("head")] == []


def test_faults_are_one_line_and_leave_nothing(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hostile.pth").write_bytes(pickle.dumps({"w": print}))
    (tmp_path / "empty.pth").write_bytes(b"")
    before = own.read_bytes()
    for argv, text in {
        (tmp_path / "hostile.pth", "--to", tmp_path / "a.pyth"): "hostile.pth: ",
        (tmp_path / "empty.pth", "--inspect"): "the file is empty",
        (
            "mvit_b_32x3_k600",
            "--inspect",
        ): "weights 'mvit_b_32x3_k600' are missing: NIGHTCRAWLER_OFFLINE is set",
        (own, "--to", own): "is the file to read",
    }.items():
        assert convert(*argv) == command_line.EXIT_USER_ERROR
        error = capsys.readouterr().err
        assert text in error
        assert len(error.splitlines()) == 1
    assert own.read_bytes() == before
    assert not (tmp_path / "a.pyth").exists()


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ([], "give --inspect or --to OUT"),
        (["--cfg", "config.yaml"], "give --inspect or --to OUT"),
        (["--to", "a.txt"], "a.txt: the name must end with .safetensors or .pyth"),
    ],
)
def test_nothing_to_do_is_a_usage_error(
    own: Path, argv: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        convert(own, *argv)
    assert caught.value.code == 2
    assert text in capsys.readouterr().err


def test_half_is_half_the_size_and_near(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    assert convert(own, "--to", whole) == 0
    assert convert(own, "--half", "--to", half) == 0
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    model, other = mvit(), mvit()
    load_pretrained(model, str(whole), min_match=1.0, class_names=NAMES)
    load_pretrained(other, str(half), min_match=1.0, class_names=NAMES)
    for name, value in model.state_dict().items():
        assert other.state_dict()[name].dtype == value.dtype
        torch.testing.assert_close(other.state_dict()[name], value, rtol=2**-10, atol=1e-7)
    state = torch.load(own, weights_only=True)
    state["model_state"]["head.projection.bias"] += 1e6
    torch.save(state, own)
    assert convert(own, "--half", "--to", tmp_path / "no.safetensors") == 2
    assert "head.projection.bias has values beyond float16" in capsys.readouterr().err
    assert not (tmp_path / "no.safetensors").exists()
