"""SlowFast, Slow, C2D, I3D: public names and numbers, hand-written formulas, torchvision's ResNet, wild sizes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nightcrawler.adapt.batchnorm import BatchNormAdapter, batchnorm_layers
from nightcrawler.config.node import get_cfg
from nightcrawler.models.build import build_model
from nightcrawler.models.conv3d import (
    FrozenBatchNorm3d,
    conv3d,
    conv_norm,
    spread_frames,
    strided_frames,
)
from nightcrawler.models.layers import motion_channels
from nightcrawler.models.nonlocal_block import NonLocal
from nightcrawler.models.resnet3d import ResNet3D
from nightcrawler.models.resnet3d_layout import NONLOCAL_BLOCKS, ResNetLayout
from nightcrawler.models.slowfast import SlowFast
from nightcrawler.utils.errors import UserError
from tests.golden.fill import clip_formula, fill_state_dict
from tests.golden.model_cases import KINDS
from tests.models.manifests import assert_public
from tests.paths import GOLDEN

GOLDENS = [
    "sf32_k700_8x64",
    "sf32_k700_frozenbn_8x64",
    "sf32_k700_train_8x64",
    "fb_slow_r50_w16",
    "fb_slowfast_8x8_r50_8x64",
    "fb_slowfast_r50_w16",
    "fb_slowfast_r50_w16_train",
]
R50 = {"MODEL.NAME": "resnet3d", "MODEL.NUM_CLASSES": 400}
MANIFEST_CONFIGS: dict[str, dict[str, Any]] = {
    "sf32_k700": {"MODEL.NAME": "slowfast"},
    "sf32_k700_frozenbn": {"MODEL.NAME": "slowfast", "SLOWFAST.FROZEN_BN": True},
    "fb_slowfast_8x8_r50": {**R50, "SLOWFAST.FUSION_KERNEL_SZ": 7},
    "fb_slowfast_8x8_r101": {**R50, "RESNET.DEPTH": 101},
    "fb_slow_8x8_r50": {**R50, "RESNET.ARCH": "slow"},
}
TINY = {"depth": (1, 1, 1, 1), "width": 8, "beta_inv": 4, "alpha": 2}


def read_golden(stem: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{stem}.json").read_text(encoding="utf-8"))


def from_config(**values: Any) -> nn.Module:
    cfg = get_cfg()
    cfg.merge_from_list([item for key, value in values.items() for item in (key, value)])
    return build_model(cfg)


def slow_net(width: int = 8, **options: Any) -> ResNet3D:
    """A filled one-pathway network of 18 layers in evaluation mode and float64."""
    return fill_state_dict(ResNet3D(5, depth=18, width=width, **options)).eval()


def tiny(**options: Any) -> SlowFast:
    return fill_state_dict(SlowFast(5, **{**TINY, **options}))


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


def test_slow_frames_are_the_golden_ones() -> None:
    case = json.loads((GOLDEN / "data_pathways.json").read_text(encoding="utf-8"))
    for row in case["slowfast_pack_cases"]:
        assert spread_frames(row["T"], row["alpha"]) == row["slow"]
    for row in case["sf_cases"]:
        assert strided_frames(row["T"], 4) == row["slow"]


@given(st.integers(1, 16), st.integers(2, 128))
def test_spread_frames_go_from_the_first_to_the_last_in_even_steps(alpha: int, count: int) -> None:
    num_frames = alpha * count
    frames = spread_frames(num_frames, alpha)
    assert (len(frames), frames[0], frames[-1]) == (count, 0, num_frames - 1)
    assert all(
        abs(frame - i * (num_frames - 1) / (count - 1)) <= 1.001 for i, frame in enumerate(frames)
    )


@pytest.mark.parametrize("num_frames", [1, 6, 7, 33])
@pytest.mark.parametrize(
    "model", [SlowFast(3, **{**TINY, "alpha": 4}), ResNet3D(3, depth=18, width=8)]
)
def test_frames_that_do_not_fit_alpha_are_one_line(model: nn.Module, num_frames: int) -> None:
    with pytest.raises(UserError, match=rf"{num_frames} frames.*multiple of alpha 4") as caught:
        model(torch.zeros(1, 3, num_frames, 32, 32))
    assert "\n" not in str(caught.value)


def test_a_clip_too_short_for_the_pool_over_time_is_one_line() -> None:
    with pytest.raises(UserError, match=r"1 frames is too short: this network needs at least 2"):
        slow_net(arch="c2d")(clip_formula((1, 3, 1, 32, 32)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 10, "beta_inv": 4}, "multiple of beta_inv 4"),
        ({"fusion_kernel": 4}, "must be odd"),
    ],
)
@pytest.mark.parametrize("network", [SlowFast, ResNet3D])
def test_pathways_that_do_not_fit_are_one_line(
    network: type[nn.Module], options: dict[str, int], message: str
) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=message):
        network(3, **options)


def test_only_the_last_fast_stage_has_no_gradient_and_the_model_says_so() -> None:
    model = tiny().train()
    model(clip_formula((2, 3, 4, 48, 48))).sum().backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    last = [name for name, _ in model.named_parameters() if name.startswith("fast.res_nl4.")]
    assert without == last
    assert len(last) == 12
    assert model.has_unused_parameters


def last_fast_runs(model: SlowFast) -> int:
    """How often the fast pathway's last stage runs in a forward pass."""
    calls: list[int] = []
    run = model.fast.res_nl4.forward

    def counted(x: Tensor) -> Tensor:
        calls.append(1)
        return run(x)

    model.fast.res_nl4.forward = counted
    model(clip_formula((2, 3, 4, 48, 48)))
    del model.fast.res_nl4.forward
    return len(calls)


def test_the_last_fast_stage_runs_only_for_its_statistics() -> None:
    model = tiny()
    assert last_fast_runs(model.train()) == 1
    assert last_fast_runs(model.eval()) == 0
    # As adapters do: all but the norms in evaluation mode, or a hook that observes one layer.
    for layer in batchnorm_layers(model).values():
        layer.train()
    assert last_fast_runs(model) == 1
    hook = model.eval().fast.res_nl4.res_0.btnk.conv1.bn.register_forward_pre_hook(
        lambda module, inputs: None
    )
    assert last_fast_runs(model) == 1
    hook.remove()
    assert last_fast_runs(model) == 0
    assert last_fast_runs(tiny(frozen_bn=True).train()) == 0


def last_fast_input(model: SlowFast, clip: Tensor) -> Tensor:
    fast = model.fast.stem(clip)
    for index in range(3):
        fast = model.fast.stage(index)(fast)
    return fast


@torch.no_grad()
def test_statistics_of_the_last_fast_stage_are_those_of_running_it() -> None:
    """In training and in adaptation, against the stage applied by hand; evaluation leaves them."""
    clip = clip_formula((4, 3, 4, 48, 48))
    expected = tiny().train()
    expected.fast.stage(3)(last_fast_input(expected, clip))
    trained = tiny().train()
    trained(clip)
    wanted = expected.fast.res_nl4.state_dict()
    found = trained.fast.res_nl4.state_dict()
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name
    before = {name: value.clone() for name, value in found.items()}
    trained.eval()(clip)
    for name, value in before.items():
        assert torch.equal(trained.fast.res_nl4.state_dict()[name], value)
    adapted = tiny()
    report = BatchNormAdapter().run(adapted, [clip])
    assert len(report.layers) == 34
    first = "fast.res_nl4.res_0.btnk.conv1"
    by_batch = tiny().train()
    values = by_batch.get_submodule(f"{first}.conv")(last_fast_input(by_batch, clip))
    torch.testing.assert_close(
        adapted.get_submodule(f"{first}.bn").running_mean, values.mean(dim=(0, 2, 3, 4))
    )


def test_resnet3d_uses_every_parameter() -> None:
    layout = ResNetLayout(nonlocal_blocks=(((), ()), ((1,), (0,)), ((), ()), ((), ())))
    model = fill_state_dict(ResNet3D(5, depth=18, width=8, layout=layout))
    model(clip_formula((2, 3, 8, 48, 48))).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert not getattr(model, "has_unused_parameters", False)


def test_frozen_batchnorm_is_constant_and_equals_batchnorm_in_evaluation() -> None:
    plain, frozen = tiny().eval(), tiny(frozen_bn=True)
    assert batchnorm_layers(frozen) == {}
    assert len(batchnorm_layers(plain)) == 34
    clip = clip_formula((2, 3, 4, 48, 40))
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    logits = frozen.train()(clip)
    torch.testing.assert_close(logits, plain(clip), rtol=1e-12, atol=1e-12)
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())


def nonlocal_by_hand(block: NonLocal, x: Tensor, weigh: Any) -> Tensor:
    """Wang et al. 2018, equations 1 and 6, a position at a time; keys and values are pooled 1 x 2 x 2."""
    batch, channels, frames, height, width = x.shape
    pooled = x.reshape(batch, channels, frames, height // 2, 2, width // 2, 2).amax(dim=(4, 6))

    def project(conv: nn.Conv3d, places: Tensor) -> Tensor:
        return torch.einsum("bn...c,oc->bn...o", places, conv.weight[:, :, 0, 0, 0]) + conv.bias

    places, keys = (value.flatten(2).transpose(1, 2) for value in (x, pooled))
    theta, phi, g = (
        project(block.conv_theta, places),
        project(block.conv_phi, keys),
        project(block.conv_g, keys),
    )
    mixed = torch.stack(
        [torch.einsum("bk,bkc->bc", weigh(theta[:, i], phi), g) for i in range(places.shape[1])],
        dim=1,
    )
    norm = block.norm
    scaled = (project(block.conv_out, mixed) - norm.running_mean) / (norm.running_var + 1e-5).sqrt()
    return (places + scaled * norm.weight + norm.bias).transpose(1, 2).reshape(x.shape)


def embedded_gaussian(query: Tensor, keys: Tensor) -> Tensor:
    weights = (torch.einsum("bc,bkc->bk", query, keys) / query.shape[1] ** 0.5).exp()
    return weights / weights.sum(dim=1, keepdim=True)


def dot_product(query: Tensor, keys: Tensor) -> Tensor:
    return torch.einsum("bc,bkc->bk", query, keys) / keys.shape[1]


@pytest.mark.parametrize(
    ("kind", "weigh"), [("softmax", embedded_gaussian), ("dot_product", dot_product)]
)
@pytest.mark.parametrize("groups", [1, 2])
def test_nonlocal_block_equals_the_formula(kind: str, weigh: Any, groups: int) -> None:
    block = fill_state_dict(NonLocal(6, (1, 2, 2), groups, kind)).eval()
    x = clip_formula((2, 6, 4, 4, 6))
    parts = [nonlocal_by_hand(block, part, weigh) for part in x.split(4 // groups, dim=2)]
    with torch.no_grad():
        seen = block(x)
    torch.testing.assert_close(seen, torch.cat(parts, dim=2), rtol=1e-12, atol=1e-12)
    assert (seen - x).abs().max() > 0.01


def test_a_fresh_nonlocal_block_changes_nothing_and_takes_maps_smaller_than_its_pool() -> None:
    x = torch.randn(1, 4, 1, 1, 3)
    assert torch.equal(NonLocal(4, (2, 2, 2), 1, "softmax")(x), x)


@pytest.mark.parametrize("arch", ["c2d", "i3d", "slow", "slowfast"])
def test_published_nonlocal_blocks_stand_where_pyslowfast_has_them(arch: str) -> None:
    with torch.device("meta"):
        model = from_config(
            **{"MODEL.NAME": "resnet3d", "RESNET.ARCH": arch, "RESNET.NONLOCAL": True}
        )
    blocks = {name: block for name, block in model.named_modules() if isinstance(block, NonLocal)}
    places = ["s3.pathway0_nonlocal1", "s3.pathway0_nonlocal3"]
    assert list(blocks) == places + [f"s4.pathway0_nonlocal{i}" for i in (1, 3, 5)]
    # The softmax of the original paper for its C2D and I3D, the dot product for Slow and SlowFast.
    expected = "softmax" if arch in ("c2d", "i3d") else "dot_product"
    assert {block.kind for block in blocks.values()} == {expected}
    stage = [name for name, _ in model.s3.named_children()]
    assert stage.index("pathway0_nonlocal1") == stage.index("pathway0_res1") + 1


def as_torchvision(name: str) -> str:
    """The name in torchvision's 2-D ResNet-50 of an entry of our one-pathway networks."""
    stem = {"s1.pathway0_stem.conv": "conv1", "s1.pathway0_stem.bn": "bn1", "head.projection": "fc"}
    module, entry = name.rsplit(".", 1)
    if module in stem:
        return f"{stem[module]}.{entry}"
    stage, block, *inner = module.split(".")
    parts = {"a": "conv1", "a_bn": "bn1", "b": "conv2", "b_bn": "bn2", "c": "conv3", "c_bn": "bn3"}
    parts |= {"branch1": "downsample.0", "branch1_bn": "downsample.1"}
    return f"layer{int(stage[1]) - 1}.{int(block.removeprefix('pathway0_res'))}.{parts[inner[-1]]}.{entry}"


@pytest.mark.parametrize("arch", ["c2d", "slow_c2d"])
def test_c2d_on_a_still_clip_is_torchvision_resnet50_on_the_image(arch: str) -> None:
    theirs = torchvision.models.resnet50(num_classes=7)
    fill_state_dict(theirs).eval()
    ours = ResNet3D(7, arch=arch, depth=50).double().eval()
    weights = theirs.state_dict()
    state = {
        name: weights[as_torchvision(name)].reshape(value.shape)
        for name, value in ours.state_dict().items()
    }
    ours.load_state_dict(state)
    image = clip_formula((1, 3, 1, 64, 96))
    with torch.no_grad():
        torch.testing.assert_close(
            ours(image.expand(-1, -1, 2, -1, -1)), theirs(image[:, :, 0]), rtol=1e-10, atol=0
        )


def test_i3d_has_the_published_kernels_in_time_and_halves_time_once() -> None:
    with torch.device("meta"):
        model = ResNet3D(5, arch="i3d", depth=50)
    kernels = {
        name: module.kernel_size[0]
        for name, module in model.named_modules()
        if name.endswith((".conv", "branch2.a"))
    }
    assert list(kernels.values()) == [5, 3, 3, 3, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 1, 3, 1]
    lengths: dict[str, int] = {}
    net = slow_net(arch="i3d")
    for name in ("s2", "s3", "s5"):
        net.get_submodule(name).register_forward_hook(
            lambda *seen, name=name: lengths.update({name: seen[2][0].shape[2]})
        )
    net(clip_formula((1, 3, 8, 32, 32)))
    assert lengths == {"s2": 8, "s3": 4, "s5": 4}


def test_layout_sets_strides_dilations_temporal_and_nonlocal_blocks() -> None:
    layout = ResNetLayout(
        stride_first=True,
        strides=((1,), (2,), (2,), (1,)),
        dilations=((1,), (1,), (1,), (2,)),
        temporal_blocks=((2,), (2,), (1,), (0,)),
        nonlocal_blocks=(((),), ((1,),), ((),), ((),)),
        nonlocal_groups=((1,), (2,), (1,), (1,)),
        nonlocal_pools=(((1, 2, 2),), ((2, 1, 1),), ((1, 2, 2),), ((1, 2, 2),)),
        nonlocal_kind="softmax",
    )
    net = slow_net(arch="slow", layout=layout)
    block = net.s5.pathway0_res1.branch2
    assert (block.b.dilation, block.b.padding) == ((1, 2, 2), (0, 2, 2))
    assert net.s3.pathway0_res0.branch2.a.stride == (1, 2, 2)
    assert net.s3.pathway0_res0.branch2.b.stride == (1, 1, 1)
    temporal = [
        net.get_submodule(f"s{s}.pathway0_res{i}.branch2.a").kernel_size[0]
        for s in (4, 5)
        for i in (0, 1)
    ]
    assert temporal == [3, 1, 1, 1]
    seen = net.s3.pathway0_nonlocal1
    assert (seen.groups, seen.pool, seen.kind) == (2, (2, 1, 1), "softmax")


@pytest.mark.parametrize(
    ("build", "num_stems"),
    [(lambda **o: tiny(**o).eval(), 2), (lambda **o: slow_net(arch="slow", **o), 1)],
)
def test_motion_stem_of_a_still_clip_sees_its_three_colours_only(
    build: Any, num_stems: int
) -> None:
    plain, motion = build(), build(motion_stem=True)
    own, stems = motion.state_dict(), 0
    for name, value in plain.state_dict().items():
        if own[name].shape != value.shape:
            own[name][:, :3] = value
            stems += 1
    assert stems == num_stems
    still = clip_formula((1, 3, 1, 40, 40)).expand(-1, -1, 4, -1, -1)
    torch.testing.assert_close(motion(still), plain(still), rtol=1e-11, atol=1e-11)
    moving = clip_formula((1, 3, 4, 40, 40))
    assert motion_channels(moving)[:, 3:].abs().max() > 0.1
    assert (motion(moving) - plain(moving)).abs().max() > 1e-3


def test_dropout_stands_before_the_classifier() -> None:
    for model, projection in (
        (tiny(dropout=1.0), "projection"),
        (ResNet3D(5, depth=18, dropout=1.0), "head.projection"),
    ):
        bias = model.get_submodule(projection).bias
        logits = model.train()(clip_formula((2, 3, 4, 48, 48), bias.dtype))
        assert torch.equal(logits, bias.expand(2, -1))


def test_head_window_averages_over_its_places_and_is_plain_where_it_covers_the_map() -> None:
    plain, window = slow_net(arch="slow_c2d"), slow_net(arch="slow_c2d", head_window=2)
    small, large = clip_formula((1, 3, 2, 64, 64)), clip_formula((1, 3, 2, 64, 96))
    maps: list[Tensor] = []
    window.s5.register_forward_hook(lambda module, inputs, output: maps.append(output[0]))
    with torch.no_grad():
        torch.testing.assert_close(window(small), plain(small), rtol=1e-12, atol=1e-12)
        seen = window(large)
        left, middle, right = maps[-1].mean(dim=(0, 2, 3)).unbind(dim=1)
        # Two places of two columns each: the middle column is in both.
        expected = window.head.projection((left + 2 * middle + right) / 4)
        torch.testing.assert_close(seen[0], expected, rtol=1e-12, atol=1e-12)


WILD = {
    "slowfast": tiny().eval().float(),
    "resnet3d slowfast": slow_net(alpha=2).float(),
    "resnet3d i3d": slow_net(
        arch="i3d", layout=ResNetLayout(nonlocal_blocks=NONLOCAL_BLOCKS)
    ).float(),
}


@pytest.mark.parametrize("name", WILD)
@settings(max_examples=15, deadline=None)
@given(pairs=st.integers(1, 5), height=st.integers(16, 70), width=st.integers(16, 70))
def test_any_clip_size_gives_finite_logits_of_each_clip(
    name: str, pairs: int, height: int, width: int
) -> None:
    clips = torch.randn(
        2, 3, 2 * pairs, height, width, generator=torch.Generator().manual_seed(height * width)
    )
    with torch.no_grad():
        logits = WILD[name](clips)
        alone = WILD[name](clips[1:])
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()
    torch.testing.assert_close(logits[1:], alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_folded_norm_is_the_two_layers(frozen: bool, bias: bool) -> None:
    torch.manual_seed(0)
    conv = conv3d(3, 4, (3, 3), stride=2, dilation=2, bias=bias).double()
    norm = (FrozenBatchNorm3d(4) if frozen else nn.BatchNorm3d(4)).double().eval()
    for tensor in norm.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 2.0)
    clip = clip_formula((2, 3, 4, 9, 8))
    with torch.no_grad():
        folded, apart = conv_norm(conv, norm, clip), norm(conv(clip))
    torch.testing.assert_close(folded, apart, rtol=1e-12, atol=1e-12)
    assert conv_norm(conv, norm, clip).requires_grad


def test_a_norm_that_takes_statistics_or_is_observed_is_not_folded() -> None:
    conv, norm, seen = conv3d(3, 4), nn.BatchNorm3d(4), []
    clip = torch.rand(2, 3, 2, 4, 4)
    with torch.no_grad():
        conv_norm(conv, norm.train(), clip)
        assert norm.num_batches_tracked == 1
        norm.eval().register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        conv_norm(conv, norm, clip)
    assert torch.equal(seen[0], conv(clip))


@pytest.mark.parametrize(
    "model", [SlowFast(5, depth=(1, 1, 1, 1), width=8, beta_inv=2), ResNet3D(5, depth=18, width=8)]
)
def test_bfloat16_inference_has_channels_last_and_the_same_logits(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts: set[bool] = set()
    plain = nn.functional.conv3d

    def convolve(x: Tensor, *arguments: Any) -> Tensor:
        last = x.is_contiguous(memory_format=torch.channels_last_3d)
        # Of a single place, both layouts are one.
        if last != x.is_contiguous():
            layouts.add(last)
        return plain(x, *arguments)

    monkeypatch.setattr(nn.functional, "conv3d", convolve)
    model = fill_state_dict(model).eval().float()
    clip = clip_formula((2, 3, 8, 64, 64)).float()
    with torch.no_grad():
        expected = model(clip)
        # Where nothing is gained, the layout stays.
        assert layouts == {False}
        layouts.clear()
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(clip)
    # Both pathways have it, from the first layer to the last.
    assert layouts == {True}
    largest = float(expected.abs().max())
    torch.testing.assert_close(logits.float(), expected, rtol=0.0, atol=5e-2 * largest)
    with torch.autocast("cpu", torch.bfloat16):
        model(clip)
    assert layouts == {True, False}


def test_weights_take_the_layout_of_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    layouts = []
    plain = nn.functional.conv3d

    def convolve(x: Tensor, weight: Tensor, *arguments: Any) -> Tensor:
        layouts.append(weight.is_contiguous(memory_format=torch.channels_last_3d))
        return plain(x, weight, *arguments)

    monkeypatch.setattr(nn.functional, "conv3d", convolve)
    conv = nn.Conv3d(4, 6, 3, padding=1)
    norm = nn.BatchNorm3d(6).eval()
    x = torch.randn(2, 4, 5, 6, 7)
    with torch.no_grad():
        results = [
            conv_norm(conv, norm, x.contiguous(memory_format=layout))
            for layout in (torch.contiguous_format, torch.channels_last_3d)
        ]
    assert layouts == [False, True]
    torch.testing.assert_close(*results)
