"""Reading checkpoints: names of every lineage, containers and prefixes, and files that are none or that attack."""

from __future__ import annotations

import json
import os
import pickle
import random
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from nightcrawler.models.formats import (
    FORMATS,
    nearest_format,
    plain_names,
    read_weights,
    recognise,
)
from nightcrawler.utils.errors import UserError
from tests.models import public_files
from tests.models.public_files import manifest, named, split_attention

MODELS = {
    "uniformer_b32_k600": "uniformer",
    "uniformer_b32_split": "uniformer",
    "sensex_uniformer_s16x4_k400": "uniformer",
    "mvit_b32_k600": "mvit",
    "fb_mvit_b_32x3_conv_k600": "mvit",
    "fb_mvitv2_b_32x3": "mvit",
    "fb_mvitv2_s_16x4": "mvit",
    "fb_slow_8x8_r50": "resnet3d",
    "fb_slowfast_8x8_r101": "resnet3d",
    "sf32_k700": "slowfast",
    "sf32_k700_frozenbn": "slowfast",
}
# Names as published (left), and ours.
PAIRS = [
    ("cls_positional_encoding.cls_token", "cls_token"),
    ("cls_positional_encoding.pos_embed_spatial", "pos_embed_spatial"),
    ("cls_positional_encoding.pos_embed_class", "pos_embed_class"),
    ("patch_embed.patch_model.weight", "patch_embed.proj.weight"),
    ("blocks.3.attn.pool_q.weight", "blocks.3.attn.pool_q.weight"),
    ("blocks.3.attn.q.bias", "blocks.3.attn.q.bias"),
    ("blocks.0.norm1.weight", "blocks.0.norm1.weight"),
    ("norm_embed.bias", "norm.bias"),
    ("head.proj.weight", "head.projection.weight"),
    ("blocks.0.multipathway_blocks.0.conv.weight", "s1.pathway0_stem.conv.weight"),
    ("blocks.0.multipathway_blocks.1.norm.running_var", "s1.pathway1_stem.bn.running_var"),
    ("blocks.0.multipathway_fusion.conv_fast_to_slow.weight", "s1_fuse.conv_f2s.weight"),
    ("blocks.3.multipathway_fusion.norm.weight", "s4_fuse.bn.weight"),
    (
        "blocks.1.multipathway_blocks.0.res_blocks.0.branch1_conv.weight",
        "s2.pathway0_res0.branch1.weight",
    ),
    (
        "blocks.1.multipathway_blocks.0.res_blocks.0.branch1_norm.bias",
        "s2.pathway0_res0.branch1_bn.bias",
    ),
    (
        "blocks.3.multipathway_blocks.1.res_blocks.22.branch2.conv_b.weight",
        "s4.pathway1_res22.branch2.b.weight",
    ),
    (
        "blocks.4.multipathway_blocks.1.res_blocks.2.branch2.norm_c.bias",
        "s5.pathway1_res2.branch2.c_bn.bias",
    ),
    ("blocks.6.proj.bias", "head.projection.bias"),
    ("blocks.0.norm.weight", "s1.pathway0_stem.bn.weight"),
    ("blocks.2.res_blocks.1.branch2.norm_a.weight", "s3.pathway0_res1.branch2.a_bn.weight"),
    ("blocks.5.proj.weight", "head.projection.weight"),
]


@pytest.mark.parametrize(("stem", "model"), MODELS.items())
def test_every_manifest_is_recognised(stem: str, model: str) -> None:
    found = recognise(manifest(stem))
    assert found is not None
    assert found.model == model
    assert found.share(manifest(stem)) == 1.0


@pytest.mark.parametrize("published", [published for published, _ in PAIRS])
def test_published_names_lead_to_ours(published: str) -> None:
    mvit = (
        published.startswith(("cls_pos", "patch", "norm_", "head"))
        or ".attn." in published
        or "norm1" in published
    )
    [found] = [
        f for f in FORMATS if f.name == f"pytorchvideo {'MViT' if mvit else 'SlowFast or ResNet'}"
    ]
    assert found.renamed(published) == dict(PAIRS)[published]


@pytest.mark.parametrize("stem", ["fb_slowfast_8x8_r50", "fb_slowfast_8x8_r101", "fb_slow_8x8_r50"])
def test_pytorchvideo_resnets_read_as_pyslowfast_ones(tmp_path: Path, stem: str) -> None:
    expected = manifest(stem)
    two = "slowfast" in stem
    torch.save(
        {"model_state": named(expected, lambda name: public_files.pytorchvideo_resnet(name, two))},
        tmp_path / "a.pyth",
    )
    file = read_weights(tmp_path / "a.pyth")
    assert file.format is not None
    assert file.format.name == "pytorchvideo SlowFast or ResNet"
    assert {name: value.shape for name, value in file.state.items()} == {
        n: v.shape for n, v in expected.items()
    }


@pytest.mark.parametrize("split", [False, True])
def test_pytorchvideo_mvit_reads_as_pyslowfast_one(tmp_path: Path, split: bool) -> None:
    expected = manifest("fb_mvit_b_32x3_conv_k600")
    expected = split_attention(expected) if split else expected
    torch.save(
        {"model_state": named(expected, public_files.pytorchvideo_mvit)}, tmp_path / "a.pyth"
    )
    file = read_weights(tmp_path / "a.pyth")
    assert file.format is not None
    assert file.format.name == "pytorchvideo MViT"
    assert list(file.state) == list(expected)


@pytest.mark.parametrize(
    "container", ["", "model", "model_state", "state_dict", "model_state_dict"]
)
@pytest.mark.parametrize(
    "prefix", ["", "module.", "module.backbone.", "_orig_mod.", "model.encoder."]
)
def test_containers_and_prefixes_fall_away(tmp_path: Path, container: str, prefix: str) -> None:
    state = {
        f"{prefix}blocks1.0.norm1.weight": torch.ones(3),
        f"{prefix}module_list.weight": torch.zeros(2),
    }
    torch.save({container: state, "epoch": 4} if container else state, tmp_path / "a.pth")
    assert list(read_weights(tmp_path / "a.pth").state) == [
        "blocks1.0.norm1.weight",
        "module_list.weight",
    ]


def test_a_prefix_that_tells_two_entries_apart_stays() -> None:
    assert plain_names(["encoder.norm.weight", "norm.weight"]) == {
        "encoder.norm.weight": "encoder.norm.weight",
        "norm.weight": "norm.weight",
    }
    assert plain_names(["encoder.norm.weight", "head.weight"]) == {
        "norm.weight": "encoder.norm.weight",
        "head.weight": "head.weight",
    }


def test_two_entries_of_one_name_are_an_error(tmp_path: Path) -> None:
    state = named(manifest("sf32_k700"), public_files.alphaction)
    torch.save({"model": {**state, "projection.bias": torch.zeros(700)}}, tmp_path / "a.pth")
    with pytest.raises(
        UserError, match=r"two entries of other values are renamed to projection\.bias"
    ):
        read_weights(tmp_path / "a.pth")


def test_names_of_others_are_of_no_known_format() -> None:
    resnet = ["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "fc.weight"]
    vit = [
        "cls_token",
        "pos_embed",
        "patch_embed.proj.weight",
        "blocks.0.norm1.weight",
        "blocks.0.attn.qkv.weight",
    ]
    assert recognise(resnet) is None
    assert recognise(vit) is None
    assert recognise([]) is None
    assert nearest_format([*vit, "blocks.0.attn.pool_k.weight"])[0].name == "PySlowFast MViT"


def test_own_checkpoints_say_classes_and_configuration(tmp_path: Path) -> None:
    about = {"class_names": ["Run", "Sit"], "cfg": "MODEL: {}\n", "config_hash": "ab12", "epoch": 3}
    torch.save({"model_state": {"head.weight": torch.ones(2, 3)}, **about}, tmp_path / "best.pyth")
    file = read_weights(tmp_path / "best.pyth")
    assert (file.class_names, file.config_text, file.config_hash) == (
        ("Run", "Sit"),
        "MODEL: {}\n",
        "ab12",
    )
    torch.save(
        {"model_state": {"w": torch.ones(1)}, "class_names": 5, "cfg": [1]}, tmp_path / "odd.pyth"
    )
    assert (
        read_weights(tmp_path / "odd.pyth").class_names,
        read_weights(tmp_path / "odd.pyth").config_text,
    ) == (
        (),
        "",
    )


def test_safetensors_with_and_without_metadata(tmp_path: Path) -> None:
    state = {"module.a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7)}
    save_file(state, tmp_path / "a.safetensors")
    file = read_weights(tmp_path / "a.safetensors")
    assert torch.equal(file.state["a"], state["module.a"])
    assert file.class_names == ()
    save_file(
        state,
        tmp_path / "b.safetensors",
        {"class_names": json.dumps(["x, y", 'z"']), "config_hash": "12"},
    )
    file = read_weights(tmp_path / "b.safetensors")
    assert (file.class_names, file.config_hash) == (("x, y", 'z"'), "12")
    save_file(state, tmp_path / "c.safetensors", {"class_names": "not json"})
    with pytest.raises(UserError, match=r"c\.safetensors: not a readable safetensors file"):
        read_weights(tmp_path / "c.safetensors")


# --- files that are none ----------------------------------------------------------------------------------------


def test_an_exported_program_names_the_files_beside_it(tmp_path: Path) -> None:
    """`nightcrawler export` writes it, for programs without this package."""
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.export.save(program, tmp_path / "model.pt2")
    (tmp_path / "model.pt2").rename(tmp_path / "renamed.pyth")
    with pytest.raises(UserError, match=r"renamed\.pyth: a program of torch\.export.*model\.onnx"):
        read_weights(tmp_path / "renamed.pyth")


def refusal(path: Path) -> str:
    """The one line that a file is refused with."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(UserError) as caught:
            read_weights(path)
    assert warned == []
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert str(path) in text
    # torch's own message advises to run what is in the file.
    assert "weights_only" not in text
    assert len(text) < 400 + len(str(path))
    return text


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def test_the_attack_works_on_a_reader_that_trusts(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Attack(tmp_path / "trace")))
    assert (tmp_path / "trace").is_dir()


@pytest.mark.parametrize("name", ["a.pth", "a.pyth", "a.pkl", "a.safetensors", "a"])
@pytest.mark.parametrize("kind", ["zip", "legacy", "protocol 2", "protocol 4"])
def test_a_hostile_pickle_is_refused_before_it_runs(tmp_path: Path, name: str, kind: str) -> None:
    content = {"model_state": {"w": torch.zeros(2), "x": Attack(tmp_path / "trace")}}
    if kind.startswith("protocol"):
        (tmp_path / name).write_bytes(
            pickle.dumps(Attack(tmp_path / "trace"), protocol=int(kind[-1]))
        )
    else:
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=kind == "zip")
    text = refusal(tmp_path / name)
    assert not (tmp_path / "trace").exists()
    if kind in ("zip", "legacy") and name != "a.safetensors":
        assert "refused, and nothing of it was run: it asks for posix.mkdir" in text


def test_empty_folder_text_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").write_bytes(b"")
    assert "the file is empty" in refusal(tmp_path / "empty.pth")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    refusal(tmp_path / "empty.safetensors")
    (tmp_path / "page.pth").write_text("<html>404</html>")
    refusal(tmp_path / "page.pth")
    (tmp_path / "caffe.pkl").write_bytes(pickle.dumps({"blobs": {"conv1_w": [1.0]}}, protocol=4))
    assert "Caffe2" in refusal(tmp_path / "caffe.pkl")
    for content in ({"epoch": 3}, {}, [torch.zeros(2)], torch.zeros(2), 5):
        torch.save(content, tmp_path / "none.pth")
        assert "it holds no tensors by name" in refusal(tmp_path / "none.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_no_truncated_file_reads(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    state = {"blocks1.0.norm1.weight": torch.arange(40.0), "head.weight": torch.ones(3, 5)}
    save_file(state, path) if suffix == ".safetensors" else torch.save({"model": state}, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 29):
        path.write_bytes(whole[:length])
        refusal(path)


def test_damaged_files_read_or_are_refused_in_one_line(tmp_path: Path) -> None:
    path, rng = tmp_path / "a.pth", random.Random(1)
    torch.save({"model": {"head.weight": torch.ones(3, 5)}}, path)
    whole = path.read_bytes()
    refused = []
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(whole))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            read_weights(path)
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert {len(text.splitlines()) for text in refused} == {1}


@given(content=st.binary(max_size=200))
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_random_bytes_are_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    for suffix in (".pth", ".safetensors"):
        (tmp_path / f"a{suffix}").write_bytes(content)
        refusal(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("part", ["ema", "net", "module", "params"])
def test_parts_of_unknown_names_are_named(tmp_path: Path, part: str) -> None:
    torch.save({part: {"a.weight": torch.zeros(2)}, "epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=rf"parts of it do \({part}\): save the one that is meant"):
        read_weights(tmp_path / "a.pth")
