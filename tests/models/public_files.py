"""Stand-ins for the public checkpoints: their names and shapes, without their weights.

A full-size entry is one number seen through strides of zero, so that a file of it is small.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.paths import MANIFESTS

State = dict[str, Tensor]
ATTENTION = re.compile(r"(.*\.attn)\.qkv\.(.*)")


def manifest(stem: str) -> State:
    """The entries of a manifest."""
    shapes = json.loads((MANIFESTS / f"{stem}.json").read_text(encoding="utf-8"))["state_dict"]
    counter = "num_batches_tracked"
    kinds = {name: torch.int64 if name.endswith(counter) else torch.float32 for name in shapes}
    return {
        name: torch.zeros((), dtype=kinds[name]).expand(shape) for name, shape in shapes.items()
    }


def split_attention(state: State) -> State:
    """Queries, keys and values as three layers."""
    found: State = {}
    for name, value in state.items():
        match = ATTENTION.fullmatch(name)
        if match is None:
            found[name] = value
            continue
        third = len(value) // 3
        for row, part in enumerate("qkv"):
            found[f"{match[1]}.{part}.{match[2]}"] = value[row * third : (row + 1) * third]
    return found


def named(state: State, rename: Callable[[str], str]) -> State:
    return {rename(name): value for name, value in state.items()}


def pytorchvideo_mvit(name: str) -> str:
    """PySlowFast's name of an MViT entry as pytorchvideo's."""
    if name == "cls_token" or name.startswith("pos_embed"):
        return f"cls_positional_encoding.{name}"
    heads = {
        "patch_embed.proj": "patch_embed.patch_model",
        "norm": "norm_embed",
        "head.projection": "head.proj",
    }
    layer, _, leaf = name.rpartition(".")
    return f"{heads.get(layer, layer)}.{leaf}"


def pytorchvideo_resnet(name: str, two_pathways: bool = True) -> str:
    """PySlowFast's name of a ResNet's entry as pytorchvideo's."""
    if name.startswith("head."):
        return f"blocks.{6 if two_pathways else 5}.proj.{name.split('.')[-1]}"
    first, rest = name.split(".", 1)
    block = f"blocks.{int(first[1]) - 1}"
    if first.endswith("_fuse"):
        layer, leaf = rest.split(".", 1)
        return f"{block}.multipathway_fusion.{ {'conv_f2s': 'conv_fast_to_slow', 'bn': 'norm'}[layer] }.{leaf}"
    unit, rest = rest.split(".", 1)
    pathway, part = re.fullmatch(r"pathway(\d)_(.*)", unit).groups()  # type: ignore[union-attr]
    block += f".multipathway_blocks.{pathway}" if two_pathways else ""
    if part == "stem":
        return f"{block}.{rest.replace('bn.', 'norm.')}"
    words = {"branch1": "branch1_conv", "branch1_bn": "branch1_norm"}
    words |= {f"branch2.{letter}": f"branch2.conv_{letter}" for letter in "abc"}
    words |= {f"branch2.{letter}_bn": f"branch2.norm_{letter}" for letter in "abc"}
    layer, _, leaf = rest.rpartition(".")
    return f"{block}.res_blocks.{part.removeprefix('res')}.{words[layer]}.{leaf}"


def alphaction(name: str) -> str:
    """The method's name of a SlowFast entry as AlphAction's file has it."""
    if name.startswith("projection."):
        return f"module.cls_head.pred.{name.split('.')[1]}"
    return f"module.backbone.{name}"


def pyslowfast(state: State) -> dict[str, Any]:
    """What PySlowFast saves beside the weights."""
    return {
        "epoch": 3,
        "model_state": state,
        "optimizer_state": {"state": {}, "param_groups": []},
        "cfg": "A: 1\n",
    }
