"""MViT and MViTv2: public names and numbers, torchvision's models, wild clips, every key of the configuration."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models.video import mvit as torchvision_mvit

from nightcrawler.config.node import get_cfg
from nightcrawler.models.build import build_model
from nightcrawler.models.layers import motion_channels
from nightcrawler.models.mvit import AttentionStyle, MViT
from tests.golden.fill import clip_formula, fill_state_dict
from tests.golden.model_cases import KINDS
from tests.models.manifests import assert_public
from tests.models.tiny_mvit import TINY, TINY_V2, tiny, tiny_v2
from tests.paths import GOLDEN

GOLDENS = [
    "mvit_tiny_sep_cls",
    "mvit_tiny_sep_nocls",
    "mvit_tiny_joint_cls",
    "mvit_tiny_sep_cls_train",
    "mvit_b32_k600_8x64",
    "fb_mvit_tiny_sep_cls",
    "fb_mvitv2_tiny",
    "fb_mvitv2_tiny_train",
]

V2 = {
    "MVIT.POOL_KVQ_KERNEL": [3, 3, 3],
    "MVIT.USE_ABS_POS": False,
    "MVIT.REL_POS_SPATIAL": True,
    "MVIT.REL_POS_TEMPORAL": True,
    "MVIT.RESIDUAL_POOLING": True,
    "MVIT.DIM_MUL_IN_ATT": True,
    "MODEL.NUM_CLASSES": 400,
}
S_GROWTH = [[1, 2.0], [3, 2.0], [14, 2.0]]


def every_block(depth: int, pooled: tuple[int, ...]) -> list[list[int]]:
    """MViTv2's strides of queries: all are pooled, at some blocks by 2."""
    return [[block, 1, 2, 2] if block in pooled else [block, 1, 1, 1] for block in range(depth)]


MANIFEST_CONFIGS: dict[str, dict[str, Any]] = {
    "mvit_b32_k600": {},
    "fb_mvit_b_32x3_conv_k600": {"MODEL.NUM_CLASSES": 600, "MVIT.POOL_NORM_EPS": 1e-6},
    "fb_mvitv2_b_32x3": {**V2, "MVIT.POOL_Q_STRIDE": every_block(24, (2, 5, 21))},
    "fb_mvitv2_s_16x4": {
        **V2,
        "DATA.NUM_FRAMES": 16,
        "MVIT.DEPTH": 16,
        "MVIT.DIM_MUL": S_GROWTH,
        "MVIT.HEAD_MUL": S_GROWTH,
        "MVIT.POOL_Q_STRIDE": every_block(16, (1, 3, 14)),
    },
}


def read_golden(stem: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{stem}.json").read_text(encoding="utf-8"))


def from_config(**values: Any) -> nn.Module:
    cfg = get_cfg()
    cfg.merge_from_list(
        [item for pair in {"MODEL.NAME": "mvit", **values}.items() for item in pair]
    )
    return build_model(cfg)


# --- the public models ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stem", GOLDENS)
def test_golden(stem: str) -> None:
    checks = list(KINDS[0].run(read_golden(stem)))
    assert {check.name for check in checks} >= {
        "state_dict entries",
        "parameters",
        "float64 logits",
    }
    assert [check for check in checks if not check.passed] == []


@pytest.mark.parametrize("name", MANIFEST_CONFIGS)
def test_state_dict_is_the_public_one(name: str) -> None:
    with torch.device("meta"):
        assert_public(name, from_config(**MANIFEST_CONFIGS[name]))


TORCHVISION_NAMES = (
    ("conv_proj.", "patch_embed.proj."),
    ("pos_encoding.class_token", "cls_token"),
    ("pos_encoding.spatial_pos", "pos_embed_spatial"),
    ("pos_encoding.temporal_pos", "pos_embed_temporal"),
    ("pos_encoding.class_pos", "pos_embed_class"),
    ("project.0.", "proj."),
    ("project.", "proj."),
    (".pool.", "."),
    ("pool_q.norm_act.0.", "norm_q."),
    ("pool_k.norm_act.0.", "norm_k."),
    ("pool_v.norm_act.0.", "norm_v."),
    ("mlp.0.", "mlp.fc1."),
    ("mlp.3.", "mlp.fc2."),
    ("head.1.", "head.projection."),
)


def our_name(name: str) -> str:
    for theirs, ours in TORCHVISION_NAMES:
        name = name.replace(theirs, ours)
    return name


@pytest.mark.parametrize(
    ("version", "shape", "trained"),
    [
        (1, (8, 64, 64), (8, 64, 64)),
        (1, (4, 32, 32), (4, 32, 32)),
        (2, (8, 64, 64), (8, 64, 64)),
        (2, (4, 32, 64), (4, 64, 64)),
        (2, (6, 64, 32), (6, 64, 64)),
    ],
)
def test_torchvision_gives_the_same_logits(
    version: int, shape: tuple[int, int, int], trained: tuple[int, int, int]
) -> None:
    """Rectangular clips too: torchvision makes relative tables for the longer side, and interpolates as we do."""
    layout = TINY if version == 1 else TINY_V2
    plans = layout.plan((trained[0] // 2, trained[1] // 4, trained[2] // 4))
    blocks = [
        torchvision_mvit.MSBlockConfig(
            plan.num_heads,
            plan.dim,
            plan.dim_out,
            *(list(pool.kernel) if pool else [] for pool in (plan.query, plan.key_value)),
            *(list(pool.stride) if pool else [] for pool in (plan.query, plan.key_value)),
        )
        for plan in plans
    ]
    flags = dict.fromkeys(("residual_pool", "rel_pos_embed", "proj_after_attn"), version == 2)
    theirs = torchvision_mvit.MViT(
        shape[1:], shape[0], blocks, residual_with_cls_embed=False, num_classes=5, **flags
    )
    theirs = theirs.double().eval()
    size = {"num_frames": trained[0], "size": trained[1]}
    ours = (
        tiny_v2(**size) if version == 2 else tiny(**size, attention=AttentionStyle(norm_eps=1e-6))
    )
    ours_state, state = ours.state_dict(), theirs.state_dict()
    assert sorted(map(our_name, state)) == sorted(ours_state)
    theirs.load_state_dict(
        {name: ours_state[our_name(name)].reshape(value.shape) for name, value in state.items()}
    )
    clip = clip_formula((2, 3, *shape))
    with torch.no_grad():
        torch.testing.assert_close(ours(clip), theirs(clip), rtol=1e-11, atol=1e-11)


# --- clips of any size ---------------------------------------------------------------------------------------------

MAKERS = [
    tiny,
    tiny_v2,
    lambda: tiny(cls_token=False, sep_pos_embed=False, norm_stem=True),
    lambda: tiny_v2(cls_token=False, mean_pooling=True, abs_pos=True),
    lambda: tiny_v2(attention=AttentionStyle(mode="avg", pool_first=True, rel_pos_spatial=True)),
]


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(MAKERS), st.integers(1, 9), st.integers(1, 50), st.integers(1, 50))
def test_any_clip_has_finite_logits(make: Any, frames: int, height: int, width: int) -> None:
    with torch.no_grad():
        logits = make()(clip_formula((1, 3, frames, height, width)))
    assert logits.shape == (1, 5)
    assert logits.isfinite().all()


@pytest.mark.parametrize(("frames", "size"), [(5, 36), (7, 44), (4, 27)])
def test_models_for_odd_sizes_have_the_published_shapes(frames: int, size: int) -> None:
    """Sizes are divided without remainder, where convolutions round up."""
    model = tiny_v2(num_frames=frames, size=size)
    tables = {name: len(value) for name, value in model.state_dict().items() if "rel_pos" in name}
    whole, half = size // 4, size // 4 // 2
    assert [tables[f"blocks.{block}.attn.rel_pos_h"] for block in range(3)] == [
        2 * n - 1 for n in (whole, half, half)
    ]
    assert [tables[f"blocks.{block}.attn.rel_pos_w"] for block in range(3)] == [
        2 * n - 1 for n in (whole, half, half)
    ]
    assert {tables[f"blocks.{block}.attn.rel_pos_t"] for block in range(3)} == {
        2 * (frames // 2) - 1
    }
    assert model(clip_formula((1, 3, frames, size, size))).isfinite().all()


# --- the other parts --------------------------------------------------------------------------------------------


def tokens_before_norm(model: MViT, clip: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens that leave the last block, and the logits."""
    seen: list[Tensor] = []
    hook = model.blocks[-1].register_forward_hook(
        lambda module, inputs, output: seen.append(output[0])
    )
    with torch.no_grad():
        logits = model(clip)
    hook.remove()
    return seen[0], logits


@pytest.mark.parametrize(
    ("cls_token", "mean_pooling"), [(True, False), (True, True), (False, False), (False, True)]
)
def test_what_the_classifier_sees(cls_token: bool, mean_pooling: bool) -> None:
    model = tiny(cls_token=cls_token, mean_pooling=mean_pooling)
    tokens, logits = tokens_before_norm(model, clip_formula((2, 3, 4, 32, 32)))
    assert tokens.shape[1] == 2 * 4 * 4 + cls_token
    if mean_pooling:
        seen = model.norm(tokens[:, int(cls_token) :].mean(dim=1))
    else:
        seen = model.norm(tokens)[:, 0] if cls_token else model.norm(tokens).mean(dim=1)
    torch.testing.assert_close(
        logits, seen @ model.head.projection.weight.T + model.head.projection.bias
    )


def test_norm_stem_comes_after_positions() -> None:
    model, seen = tiny(norm_stem=True), {}
    model.patch_embed.register_forward_hook(
        lambda module, inputs, output: seen.update(patches=output[0])
    )
    model.blocks[0].register_forward_hook(
        lambda module, inputs, output: seen.update(entering=inputs[0])
    )
    with torch.no_grad():
        model(clip_formula((1, 3, 4, 32, 32)))
    tokens = torch.cat([model.cls_token, seen["patches"]], dim=1) + model._positions((2, 8, 8))
    expected = nn.functional.layer_norm(
        tokens, (8,), model.norm_stem.weight, model.norm_stem.bias, 1e-6
    )
    torch.testing.assert_close(seen["entering"], expected)
    assert "norm_stem.weight" in model.state_dict()


def test_the_motion_stem_sees_six_channels() -> None:
    model, clip = tiny(motion_stem=True), clip_formula((2, 3, 4, 32, 32))
    seen = []
    model.patch_embed.proj.register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0])
    )
    logits = model(clip)
    assert torch.equal(seen[0], motion_channels(clip))
    assert model.patch_embed.proj.weight.shape[1] == 6
    assert not torch.allclose(logits, model(clip.flip(0)))


@pytest.mark.parametrize("make", [tiny, tiny_v2])
def test_recomputed_activations_give_the_same_gradients(make: Any) -> None:
    clip = clip_formula((2, 3, 4, 32, 32))
    gradients: list[dict[str, Tensor | None]] = []
    for count in (0, 2):
        model, calls = (
            make(checkpoint=count, drop_path=0.4, dropout=0.2, head_dropout=0.3).train(),
            [],
        )
        for number, block in enumerate(model.blocks):
            block.attn.register_forward_pre_hook(
                lambda *_, number=number, calls=calls: calls.append(number)
            )
        torch.manual_seed(3)
        model(clip).square().sum().backward()
        assert [calls.count(number) for number in range(2)] == [2 if count else 1] * 2
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-12)


def test_dropout_and_drop_path_are_where_they_belong() -> None:
    model = tiny_v2(drop_path=0.4, dropout=0.2, head_dropout=0.3)
    assert [block.drop_path.drop_prob for block in model.blocks] == pytest.approx([0, 0.2, 0.4])
    rates = {
        name: module.p for name, module in model.named_modules() if isinstance(module, nn.Dropout)
    }
    assert rates.pop("head.dropout") == 0.3
    assert set(rates) == {"pos_drop"} | {
        f"blocks.{block}.{name}"
        for block in range(3)
        for name in ("attn.proj_drop", "mlp.drop1", "mlp.drop2")
    }
    assert set(rates.values()) == {0.2}
    applied: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda *_, name=name: applied.append(name))
    model(clip_formula((1, 3, 4, 32, 32)))
    assert sorted(applied) == sorted([*rates, "head.dropout"])


@pytest.mark.parametrize("make", [tiny, tiny_v2])
def test_bfloat16_autocast_is_near_float32(make: Any) -> None:
    model, clip = make().float(), clip_formula((2, 3, 4, 32, 32), torch.float32)
    with torch.no_grad():
        exact = model(clip)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(clip)
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()


# --- from a configuration ---------------------------------------------------------------------------------------

SMALL = {
    "DATA.NUM_FRAMES": 4,
    "DATA.TRAIN_CROP_SIZE": 32,
    "MVIT.DEPTH": 2,
    "MVIT.EMBED_DIM": 8,
    "MVIT.DIM_MUL": [[1, 2.0]],
    "MVIT.HEAD_MUL": [[1, 2.0]],
    "MVIT.POOL_Q_STRIDE": [[1, 1, 2, 2]],
    "MVIT.POOL_KV_STRIDE_ADAPTIVE": [1, 2, 2],
}


@pytest.mark.parametrize(
    "change",
    [
        {"MVIT.DEPTH": 3},
        {"MVIT.EMBED_DIM": 16},
        {"MVIT.NUM_HEADS": 2},
        {"MVIT.MLP_RATIO": 2.0},
        {"MVIT.QKV_BIAS": False},
        {"MVIT.PATCH_KERNEL": [3, 5, 5]},
        {"MVIT.PATCH_STRIDE": [2, 8, 8]},
        {"MVIT.PATCH_PADDING": [1, 2, 2]},
        {"MVIT.MODE": "max"},
        {"MVIT.POOL_FIRST": True},
        {"MVIT.CLS_EMBED_ON": False},
        {"MVIT.DIM_MUL": []},
        {"MVIT.HEAD_MUL": []},
        {"MVIT.POOL_KV_STRIDE_ADAPTIVE": []},
        {"MVIT.POOL_KV_STRIDE_ADAPTIVE": [], "MVIT.POOL_KV_STRIDE": [[0, 1, 4, 4]]},
        {"MVIT.POOL_Q_STRIDE": []},
        {"MVIT.POOL_KVQ_KERNEL": [3, 3, 3]},
        {"MVIT.NORM_STEM": True},
        {"MVIT.SEP_POS_EMBED": False},
        {"MVIT.USE_ABS_POS": False},
        {"MVIT.REL_POS_SPATIAL": True},
        {"MVIT.REL_POS_TEMPORAL": True},
        {"MVIT.RESIDUAL_POOLING": True},
        {"MVIT.DIM_MUL_IN_ATT": True},
        {"MVIT.SEPARATE_QKV": True},
        {"MVIT.USE_MEAN_POOLING": True},
        {"MVIT.POOL_NORM_EPS": 1e-3},
        {"MODEL.MOTION_STEM": True},
        {"DATA.NUM_FRAMES": 6},
    ],
    ids=lambda change: "-".join(change),
)
def test_every_key_changes_the_model(change: dict[str, Any]) -> None:
    """Other parameters, or other logits from the same."""
    plain, changed = (from_config(**{**SMALL, **values}) for values in ({}, change))
    states = [
        {name: value.shape for name, value in model.state_dict().items()}
        for model in (plain, changed)
    ]
    clip = clip_formula((1, 3, 4, 32, 32))
    with torch.no_grad():
        logits = [fill_state_dict(model).eval()(clip) for model in (plain, changed)]
    assert all(values.isfinite().all() for values in logits)
    assert states[0] != states[1] or not torch.allclose(*logits, rtol=1e-7, atol=1e-9)


def test_rates_and_recomputation_come_from_the_configuration() -> None:
    rates = {"MODEL.DROPOUT_RATE": 0.5, "MODEL.DROP_PATH_RATE": 0.3, "MVIT.DROPOUT_RATE": 0.1}
    model = from_config(
        **SMALL, **rates, **{"MODEL.USE_CHECKPOINT": True, "MODEL.CHECKPOINT_NUM": [1]}
    )
    assert (model.head.dropout.p, model.blocks[1].drop_path.drop_prob, model.pos_drop.p) == (
        0.5,
        0.3,
        0.1,
    )
    assert model.num_recomputed == 1
    assert from_config(**SMALL, **{"MODEL.CHECKPOINT_NUM": [1]}).num_recomputed == 0
