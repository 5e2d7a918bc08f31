"""Loading weights: every public format fills its model, every change equals a formula, what does not fit is named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from nightcrawler.models import zoo
from nightcrawler.models.conversion import arrange_attention, inflate, resize_table
from nightcrawler.models.mvit import AttentionStyle, MViT
from nightcrawler.models.mvit_layout import MViTLayout
from nightcrawler.models.pretrained import load_pretrained
from nightcrawler.models.resnet3d import ResNet3D
from nightcrawler.models.resnet3d_layout import ResNetLayout
from nightcrawler.models.slowfast import SlowFast
from nightcrawler.models.uniformer import UniFormer
from nightcrawler.models.zoo import ZOO, find_weights
from nightcrawler.models.zoo_table import PRETRAINED, ZooEntry
from nightcrawler.utils.errors import ArgumentError, UserError
from nightcrawler.utils.io import sha256_file
from tests.models import public_files
from tests.models.public_files import manifest, named, pyslowfast, split_attention
from tests.paths import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter:UserWarning")
K600 = "fb_mvit_b_32x3_conv_k600"
HEADS = ["head.weight", "head.bias"]
PROJECTIONS = ["head.projection.weight", "head.projection.bias"]
LAYOUT = MViTLayout(
    depth=2,
    embed_dim=8,
    dim_mul=((1, 2.0),),
    head_mul=((1, 2.0),),
    q_stride=((1, 1, 2, 2),),
    kv_stride_adaptive=(),
)


def alphaction_file() -> dict[str, Any]:
    state = {
        name: value
        for name, value in manifest("sf32_k700").items()
        if not name.startswith("projection.")
    }
    state |= {
        "projection.weight": torch.zeros(()).expand(700, 2048),
        "projection.bias": torch.zeros(()).expand(700),
    }
    return {"model": named(state, public_files.alphaction), "iteration": 7}


def resnet(two_pathways: bool) -> Callable[[str], str]:
    return lambda name: public_files.pytorchvideo_resnet(name, two_pathways)


Make = Callable[[], Any]
# What the file is, what it holds, the model, entries that stay, format, entries converted.
PUBLIC: dict[str, tuple[Make, Callable[[], nn.Module], list[str], str, int]] = {
    "UniFormer K600": (
        lambda: manifest("sensex_uniformer_b32x4_k600"),
        lambda: UniFormer(11),
        HEADS,
        "Sense-X UniFormer",
        0,
    ),
    "UniFormer SSV2 under 'model'": (
        lambda: {"model": manifest("sensex_uniformer_b32_sthv2")},
        lambda: UniFormer(11),
        HEADS,
        "Sense-X UniFormer",
        0,
    ),
    "k600.pyth": (
        lambda: pyslowfast(manifest(K600)),
        lambda: MViT(11),
        PROJECTIONS,
        "PySlowFast MViT",
        0,
    ),
    "k600.pyth, same classes": (
        lambda: pyslowfast(manifest(K600)),
        lambda: MViT(600),
        [],
        "PySlowFast MViT",
        0,
    ),
    "PySlowFast MViT, q k v": (
        lambda: pyslowfast(split_attention(manifest(K600))),
        lambda: MViT(11),
        PROJECTIONS,
        "PySlowFast MViT",
        48,
    ),
    "k600.pyth to q k v": (
        lambda: pyslowfast(manifest(K600)),
        lambda: MViT(11, attention=AttentionStyle(separate_qkv=True)),
        PROJECTIONS,
        "PySlowFast MViT",
        144,
    ),
    "pytorchvideo MViT": (
        lambda: {
            "model_state": named(split_attention(manifest(K600)), public_files.pytorchvideo_mvit)
        },
        lambda: MViT(11),
        PROJECTIONS,
        "pytorchvideo MViT",
        48,
    ),
    "AlphAction": (
        alphaction_file,
        lambda: SlowFast(11),
        ["projection.weight", "projection.bias"],
        "AlphAction",
        0,
    ),
    "PySlowFast SlowFast": (
        lambda: pyslowfast(manifest("fb_slowfast_8x8_r101")),
        lambda: ResNet3D(11, depth=101),
        PROJECTIONS,
        "PySlowFast SlowFast or ResNet",
        0,
    ),
    "pytorchvideo SlowFast": (
        lambda: {"model_state": named(manifest("fb_slowfast_8x8_r50"), resnet(True))},
        lambda: ResNet3D(11, fusion_kernel=7),
        PROJECTIONS,
        "pytorchvideo SlowFast or ResNet",
        0,
    ),
    "pytorchvideo Slow": (
        lambda: {"model_state": named(manifest("fb_slow_8x8_r50"), resnet(False))},
        lambda: ResNet3D(11, arch="slow"),
        PROJECTIONS,
        "pytorchvideo SlowFast or ResNet",
        0,
    ),
    "the method's best.pyth": (
        lambda: {**pyslowfast(manifest("uniformer_b32_k600")), "scaler": {}},
        lambda: UniFormer(11),
        [],
        "Sense-X UniFormer",
        0,
    ),
    "the method's SlowFast": (
        lambda: pyslowfast(manifest("sf32_k700")),
        lambda: SlowFast(11),
        [],
        "AlphAction",
        0,
    ),
}


@pytest.mark.parametrize("kind", PUBLIC)
def test_every_public_format_fills_its_model(tmp_path: Path, kind: str) -> None:
    content, build, missing, known, converted = PUBLIC[kind]
    torch.save(content(), tmp_path / "file.pth")
    with torch.device("meta"):
        model = build()
    report = load_pretrained(
        model, tmp_path / "file.pth", class_names=[f"class {i}" for i in range(11)]
    )
    assert report.share == 1.0
    assert report.missing == missing
    assert sorted(report.skipped) == sorted(missing)
    assert report.format.startswith(known)
    assert len(report.converted) == converted
    assert len(report.filled) + len(missing) == len(model.state_dict())
    assert report.sha256 == sha256_file(tmp_path / "file.pth")
    assert "100.0 % of the backbone's parameters" in str(report)
    assert report.sha256 in str(report)


def test_frozen_norms_take_files_of_others(tmp_path: Path) -> None:
    torch.save(alphaction_file(), tmp_path / "file.pth")
    with torch.device("meta"):
        model = SlowFast(11, frozen_bn=True)
    report = load_pretrained(model, tmp_path / "file.pth")
    assert report.share == 1.0
    assert report.missing == ["projection.weight", "projection.bias"]
    assert {name.rsplit(".", 1)[1] for name in report.skipped} == {
        "num_batches_tracked",
        "weight",
        "bias",
    }


# --- values arrive where they belong ----------------------------------------------------------------------------


def tiny_mvit(num_classes: int = 5, num_frames: int = 4, size: int = 32, **options: Any) -> MViT:
    return MViT(num_classes, num_frames=num_frames, size=size, layout=LAYOUT, **options).eval()


def filled(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A model with values of its own in every entry."""
    torch.manual_seed(seed)
    model = build()
    for value in model.state_dict().values():
        value.copy_(
            torch.rand(value.shape) + 0.5 if value.is_floating_point() else torch.tensor(seed)
        )
    return model


@pytest.mark.parametrize(
    ("build", "rename", "change"),
    [
        (lambda: ResNet3D(5, depth=18, width=8), resnet(True), dict),
        (lambda: ResNet3D(5, arch="i3d", depth=18, width=8), resnet(False), dict),
        (tiny_mvit, public_files.pytorchvideo_mvit, dict),
        (tiny_mvit, public_files.pytorchvideo_mvit, split_attention),
        (tiny_mvit, lambda name: f"module.{name}", split_attention),
        (lambda: SlowFast(5, depth=(1, 1, 1, 1), width=8), public_files.alphaction, dict),
        (lambda: UniFormer(5, depth=(1, 1, 1, 1), embed_dim=(8, 8, 16, 16), head_dim=8), str, dict),
    ],
)
def test_every_value_arrives_under_its_name(
    tmp_path: Path,
    build: Callable[[], nn.Module],
    rename: Callable[[str], str],
    change: Callable[[Any], Any],
) -> None:
    giver, taker = filled(build, 1), filled(build, 2)
    torch.save({"model": named(change(giver.state_dict()), rename)}, tmp_path / "a.pth")
    report = load_pretrained(taker, tmp_path / "a.pth", complete=True)
    assert report.missing == list(report.skipped) == []
    found = taker.state_dict()
    assert [
        name for name, value in giver.state_dict().items() if not torch.equal(found[name], value)
    ] == []


def test_attention_splits_and_stacks_in_the_order_q_k_v() -> None:
    whole = {
        "blocks.0.attn.qkv.weight": torch.arange(18.0).reshape(9, 2),
        "blocks.0.attn.qkv.bias": torch.arange(9.0),
    }
    parts = {
        f"blocks.0.attn.{part}.{leaf}": torch.empty(0)
        for part in "qkv"
        for leaf in ("weight", "bias")
    }
    split, how = arrange_attention(whole, list(parts))
    assert split["blocks.0.attn.k.bias"].tolist() == [3, 4, 5]
    assert split["blocks.0.attn.v.weight"].tolist() == [[12, 13], [14, 15], [16, 17]]
    assert set(how) == set(parts) == set(split)
    again, _ = arrange_attention(split, list(whole))
    assert all(torch.equal(again[name], value) for name, value in whole.items())
    # Nothing is stacked of parts that do not belong together, nor touched where the model has it so.
    assert (
        arrange_attention(
            {name: value for name, value in split.items() if ".k." not in name}, list(whole)
        )[1]
        == {}
    )
    assert arrange_attention(whole, list(whole))[0] == whole


def test_half_precision_files_fill_full_precision_models(tmp_path: Path) -> None:
    giver, taker = filled(tiny_mvit, 1), filled(tiny_mvit, 2)
    torch.save(giver.half().state_dict(), tmp_path / "a.pth")
    load_pretrained(taker, tmp_path / "a.pth", complete=True)
    assert {value.dtype for value in taker.state_dict().values()} == {torch.float32}
    assert torch.equal(taker.norm.weight, giver.norm.weight.float())


# --- kernels ----------------------------------------------------------------------------------------------------


class Toy(nn.Module):
    """A convolution over clips and a classifier."""

    def __init__(self, num_classes: int = 3, kernel: tuple[int, int, int] = (3, 3, 3)) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 4, kernel)
        self.head = nn.Linear(4, num_classes)


@pytest.mark.parametrize("image_kernel", [(), (1,)])
def test_an_inflated_kernel_gives_a_still_clip_what_the_image_gave(
    tmp_path: Path, image_kernel: tuple
) -> None:
    toy, kernel, bias = Toy(kernel=(5, 3, 3)), torch.randn(4, 2, 3, 3), torch.randn(4)
    stored = kernel.reshape(4, 2, *image_kernel, 3, 3)
    torch.save({"conv.weight": stored, "conv.bias": bias}, tmp_path / "image.pth")
    report = load_pretrained(toy, tmp_path / "image.pth")
    assert report.converted == {"conv.weight": "2-D kernel inflated over 5 frames"}
    assert torch.allclose(toy.conv.weight, kernel[:, :, None].expand(-1, -1, 5, -1, -1) / 5)
    image = torch.randn(1, 2, 9, 9)
    clip = image[:, :, None].expand(-1, -1, 7, -1, -1)
    expected = functional.conv2d(image, kernel, bias)[:, :, None].expand(-1, -1, 3, -1, -1)
    assert torch.allclose(toy.conv(clip), expected, atol=1e-5)


def test_a_centered_kernel_sees_the_middle_frame() -> None:
    kernel = torch.randn(4, 2, 3, 3)
    clip = torch.randn(1, 2, 3, 9, 9)
    found = functional.conv3d(clip, inflate(kernel, 3, center=True))
    assert torch.allclose(found[:, :, 0], functional.conv2d(clip[:, :, 1], kernel), atol=1e-5)


def test_linear_layers_become_convolutions_of_one_cell(tmp_path: Path) -> None:
    toy = Toy(kernel=(1, 1, 1))
    torch.save(
        {"conv.weight": torch.arange(8.0).reshape(4, 2), "conv.bias": torch.zeros(4)},
        tmp_path / "a.pth",
    )
    report = load_pretrained(toy, tmp_path / "a.pth")
    assert report.converted == {"conv.weight": "[4, 2] reshaped to [4, 2, 1, 1, 1]"}
    assert toy.conv.weight.flatten().tolist() == list(range(8))


def test_a_kernel_of_another_size_is_left_out_and_named(tmp_path: Path) -> None:
    toy = Toy()
    torch.save(
        {"conv.weight": torch.zeros(4, 2, 5, 5), "conv.bias": torch.zeros(4)}, tmp_path / "a.pth"
    )
    with pytest.raises(
        UserError, match=r"conv\.weight \(shape \[4, 2, 5, 5\], the model has \[4, 2, 3, 3, 3\]\)"
    ):
        load_pretrained(toy, tmp_path / "a.pth")


# --- positions --------------------------------------------------------------------------------------------------


def resampled(values: np.ndarray, length: int) -> np.ndarray:
    """Linear interpolation between cell centres along the first axis, ends held."""
    centres = (np.arange(length) + 0.5) * len(values) / length - 0.5
    columns = values.reshape(len(values), -1).T
    found = np.stack(
        [np.interp(centres, np.arange(len(values)), column) for column in columns], axis=-1
    )
    return found.reshape(length, *values.shape[1:])


@pytest.mark.parametrize(
    ("grid", "wanted"),
    [((7,), (4,)), ((3,), (3,)), ((4, 4), (7, 7)), ((2, 3), (5, 2)), ((2, 4, 4), (4, 2, 2))],
)
def test_tables_are_interpolated_along_each_axis(
    grid: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
    table = np.random.default_rng(0).normal(size=(*grid, 3))
    expected = table
    for axis, length in enumerate(wanted):
        expected = np.moveaxis(resampled(np.moveaxis(expected, axis, 0), length), 0, axis)
    found = resize_table(torch.from_numpy(table).reshape(-1, 3), grid, wanted)
    assert np.allclose(found.numpy(), expected.reshape(-1, 3), atol=1e-5)


RELATIVE = AttentionStyle(rel_pos_spatial=True, rel_pos_temporal=True, residual_pooling=True)


OTHER_SIZES = [(8, 64), (8, 32), (16, 32), (4, 32), (4, 16), (12, 48)]
# What tells an MViT's positions, the tables it has, and other sizes whose tables can be told apart.
POSITIONS: list[tuple[dict[str, Any], list[str], list[tuple[int, int]]]] = [
    ({}, ["pos_embed_spatial", "pos_embed_temporal"], OTHER_SIZES),
    ({"cls_token": False}, ["pos_embed_spatial", "pos_embed_temporal"], OTHER_SIZES),
    ({"sep_pos_embed": False}, ["pos_embed"], OTHER_SIZES[:4]),
    ({"sep_pos_embed": False, "cls_token": False}, ["pos_embed"], OTHER_SIZES[:4]),
    (
        {"abs_pos": False, "attention": RELATIVE},
        [f"blocks.{i}.attn.rel_pos_{axis}" for i in (0, 1) for axis in "hwt"],
        OTHER_SIZES,
    ),
]


@pytest.mark.parametrize(
    ("options", "tables", "num_frames", "size"),
    [(options, tables, *other) for options, tables, others in POSITIONS for other in others],
)
def test_a_model_of_another_size_starts_where_the_first_would_be(
    tmp_path: Path, options: dict[str, Any], tables: list[str], num_frames: int, size: int
) -> None:
    """MViT interpolates positions itself when it sees another size: the two ways must agree."""
    giver, taker = (
        tiny_mvit(num_frames=8, size=32, **options),
        tiny_mvit(5, num_frames, size, **options),
    )
    for parameter in giver.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    torch.save(giver.state_dict(), tmp_path / "a.pth")
    report = load_pretrained(taker, tmp_path / "a.pth", complete=True)
    resized = {
        name for name in tables if taker.state_dict()[name].shape != giver.state_dict()[name].shape
    }
    assert set(report.converted) == resized
    assert bool(resized) == ((num_frames, size) != (8, 32))
    clip = torch.randn(2, 3, num_frames, size, size)
    assert torch.allclose(taker(clip), giver(clip), atol=1e-4)


def test_equal_sizes_are_taken_as_they_are(tmp_path: Path) -> None:
    giver, taker = filled(tiny_mvit, 1), filled(tiny_mvit, 2)
    torch.save(giver.state_dict(), tmp_path / "a.pth")
    report = load_pretrained(taker, tmp_path / "a.pth")
    assert report.converted == {}
    assert torch.equal(taker.pos_embed_spatial, giver.pos_embed_spatial)


def test_the_grid_that_a_joint_table_is_taken_for_is_said(tmp_path: Path) -> None:
    giver, taker = (
        tiny_mvit(num_frames=8, size=32, sep_pos_embed=False),
        tiny_mvit(5, 16, 32, sep_pos_embed=False),
    )
    torch.save(giver.state_dict(), tmp_path / "a.pth")
    how = "positions [1, 257, 8] interpolated to [1, 513, 8], taken as 4 x 8 x 8 of them"
    assert load_pretrained(taker, tmp_path / "a.pth").converted == {"pos_embed": how}


def test_a_table_whose_grid_cannot_be_told_is_an_error(tmp_path: Path) -> None:
    """Tables are a thousandth of a large model: no share of the parameters tells that they are lost."""
    state = tiny_mvit(sep_pos_embed=False).state_dict()
    torch.save({**state, "pos_embed": torch.zeros(1, 1 + 3 * 5, 8)}, tmp_path / "a.pth")
    text = message(tiny_mvit(sep_pos_embed=False), tmp_path / "a.pth", min_match=0.5)
    assert "lost, first pos_embed (" in text
    assert "pos_embed (shape [1, 16, 8], the model has [1, 129, 8])" in text
    state = tiny_mvit().state_dict()
    torch.save({**state, "pos_embed_spatial": torch.zeros(1, 15, 8)}, tmp_path / "b.pth")
    text = message(tiny_mvit(), tmp_path / "b.pth", min_match=0.5)
    assert "1 entries would be lost, first pos_embed_spatial (" in text


# --- the classifier ---------------------------------------------------------------------------------------------


def save_toy(path: Path, class_names: list[str], **about: Any) -> Toy:
    toy = Toy(len(class_names))
    torch.save({"model_state": toy.state_dict(), "class_names": class_names, **about}, path)
    return toy


@given(data=st.data())
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_rows_follow_their_class_names(tmp_path: Path, data: st.DataObject) -> None:
    source = data.draw(st.permutations([f"c{i}" for i in range(7)]))
    wanted = data.draw(st.lists(st.sampled_from(source), min_size=1, max_size=7, unique=True))
    giver, taker = save_toy(tmp_path / "a.pth", source), Toy(len(wanted))
    report = load_pretrained(taker, tmp_path / "a.pth", class_names=wanted, complete=True)
    for row, name in enumerate(wanted):
        assert torch.equal(taker.head.weight[row], giver.head.weight[source.index(name)])
        assert taker.head.bias[row] == giver.head.bias[source.index(name)]
    changed = {} if source == wanted else dict.fromkeys(HEADS, "rows by class name")
    assert report.converted == changed
    assert report.notes == []


def test_a_classifier_without_the_wanted_classes_is_dropped_and_reported(tmp_path: Path) -> None:
    save_toy(tmp_path / "a.pth", ["Run", "Sit", "Stand"])
    taker = Toy(3)
    before = taker.head.weight.detach().clone()
    report = load_pretrained(taker, tmp_path / "a.pth", class_names=["Run", "Wave", "Turn"])
    assert torch.equal(taker.head.weight, before)
    why = "classifier of 3 classes, 2 of the model's are not among them: 'Wave', 'Turn'"
    assert report.skipped == dict.fromkeys(HEADS, why)
    assert report.missing == HEADS
    assert why in str(report)


def test_a_classifier_without_names_goes_by_its_size(tmp_path: Path) -> None:
    torch.save(Toy(3).state_dict(), tmp_path / "a.pth")
    report = load_pretrained(Toy(3), tmp_path / "a.pth", class_names=["Run", "Sit", "Stand"])
    assert report.missing == []
    assert "does not name its classes" in str(report)
    report = load_pretrained(Toy(2), tmp_path / "a.pth", class_names=["Run", "Sit"])
    assert report.skipped == dict.fromkeys(HEADS, "classifier of 3 classes, the model has 2")
    assert report.notes == []


def test_equal_names_need_no_word(tmp_path: Path) -> None:
    giver = save_toy(tmp_path / "a.pth", ["Run", "Sit"])
    for class_names in (["Run", "Sit"], []):
        taker = Toy(2)
        report = load_pretrained(taker, tmp_path / "a.pth", class_names=class_names)
        assert (report.converted, report.notes, report.missing) == ({}, [], [])
        assert torch.equal(taker.head.weight, giver.head.weight)


# --- too little matches -----------------------------------------------------------------------------------------


def message(model: nn.Module, path: Path, **options: Any) -> str:
    """The one line a load fails with; the model stays as it was."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_pretrained(model, path, **options)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_another_architecture_is_named(tmp_path: Path) -> None:
    state = {"model_state": named(ResNet3D(5, depth=18, width=8).state_dict(), resnet(True))}
    torch.save(state, tmp_path / "a.pyth")
    uniformer = UniFormer(5, depth=(1, 1, 1, 1), embed_dim=(8, 8, 16, 16), head_dim=8)
    text = message(uniformer, tmp_path / "a.pyth")
    assert text.startswith(
        f"{tmp_path / 'a.pyth'}: fills only 0.0 % of the backbone's parameters, min_match is"
    )
    assert (
        "looks like a pytorchvideo SlowFast or ResNet file, for model 'resnet3d'; the model is uniformer"
        in text
    )
    assert "s1.pathway0_stem.conv.weight (the model has no such entry)" in text
    assert "patch_embed1.norm.weight (missing)" in text


def test_another_size_of_the_same_architecture_is_named(tmp_path: Path) -> None:
    torch.save(ResNet3D(5, depth=18, width=16).state_dict(), tmp_path / "a.pyth")
    text = message(ResNet3D(5, depth=18, width=8), tmp_path / "a.pyth")
    assert (
        "looks like a PySlowFast SlowFast or ResNet file, as model 'resnet3d' takes, but of another size"
        in text
    )
    assert (
        "s1.pathway0_stem.conv.weight (shape [16, 3, 1, 7, 7], the model has [8, 3, 1, 7, 7])"
        in text
    )


def test_names_of_nobody_are_said_to_be_so(tmp_path: Path) -> None:
    torch.save(
        {"a": torch.zeros(2), "norm.weight": torch.ones(3), "c": torch.ones(3)}, tmp_path / "a.pth"
    )
    text = message(tiny_mvit(), tmp_path / "a.pth", min_match=0)
    assert "its names are of no format known (nearest is Sense-X UniFormer, 33 % of them)" in text


@pytest.mark.parametrize(("min_match", "loads"), [(0.70, True), (0.72, False), (1.0, False)])
def test_the_share_counts_parameters_outside_the_head(
    tmp_path: Path, min_match: float, loads: bool
) -> None:
    """Of 100 and 40 parameters, 100 are there: 71.4 %."""
    model = nn.ModuleDict({"a": nn.Linear(10, 10, bias=False), "b": nn.Linear(10, 4, bias=False)})
    model["head"] = nn.Linear(1000, 5)
    torch.save(
        {"a.weight": torch.ones(10, 10), "head.weight": torch.zeros(5, 1000)}, tmp_path / "a.pth"
    )
    if loads:
        report = load_pretrained(model, tmp_path / "a.pth", min_match=min_match)
        assert report.share == pytest.approx(100 / 140)
        assert report.missing == ["b.weight", "head.bias"]
    else:
        assert "fills only 71.4 %" in message(model, tmp_path / "a.pth", min_match=min_match)


def test_long_lists_are_cut_and_counted(tmp_path: Path) -> None:
    state = {f"old{i}.weight": torch.zeros(1) for i in range(9)}
    torch.save({**Toy().state_dict(), **state}, tmp_path / "a.pth")
    text = str(load_pretrained(Toy(), tmp_path / "a.pth"))
    assert "4 loaded, 0 converted, 9 skipped, 0 missing" in text
    assert text.count("skipped old") == 5
    assert "... and 4 more skipped" in text


def test_testing_wants_every_entry_on_both_sides(tmp_path: Path) -> None:
    state = ResNet3D(5, depth=18, width=8).state_dict()
    statistic = "s1.pathway0_stem.bn.running_var"
    for name, content in {
        "head": {key: value for key, value in state.items() if not key.startswith("head.")},
        "statistic": {key: value for key, value in state.items() if key != statistic},
        "more": {**state, "extra.weight": torch.zeros(2)},
    }.items():
        torch.save(content, tmp_path / f"{name}.pth")
        assert "its entries are not exactly those of this model" in message(
            ResNet3D(5, depth=18, width=8), tmp_path / f"{name}.pth", complete=True
        )
        load_pretrained(ResNet3D(5, depth=18, width=8), tmp_path / f"{name}.pth")
    torch.save(
        {key: value for key, value in state.items() if "num_batches" not in key},
        tmp_path / "counters.pth",
    )
    load_pretrained(ResNet3D(5, depth=18, width=8), tmp_path / "counters.pth", complete=True)


def test_a_model_may_have_what_others_strip(tmp_path: Path) -> None:
    build = lambda: nn.ModuleDict({"encoder": Toy(), "norm": nn.LayerNorm(4)})  # noqa: E731
    giver, taker = build(), build()
    torch.save(giver.state_dict(), tmp_path / "a.pth")
    load_pretrained(taker, tmp_path / "a.pth", complete=True)
    assert torch.equal(taker["encoder"].conv.weight, giver["encoder"].conv.weight)
    assert torch.equal(taker["encoder"].head.weight, giver["encoder"].head.weight)


# --- names instead of paths -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", ZOO)
def test_a_missing_file_says_where_to_get_it(folder: Path, name: str) -> None:
    entry = ZOO[name]
    wanted = [name]
    # Of files of one name, the first is told of.
    if "/" not in name:
        wanted += [f"weights/{entry.file}", str(folder / entry.file)]
    for one in wanted:
        with pytest.raises(UserError) as caught:
            load_pretrained(Toy(), one)
        assert entry.source in str(caught.value)
        assert "https://github.com/" in str(caught.value)
    (folder / "weights" / entry.file).parent.mkdir(parents=True, exist_ok=True)
    (folder / "weights" / entry.file).write_bytes(b"x")
    assert find_weights(name) == Path("weights") / entry.file


def test_other_missing_files_say_what_to_do(folder: Path) -> None:
    for name, text in {
        "mvit_b_32x3": "did you mean 'mvit_b_32x3_k600'",
        "ug2-2022/stage4/mvit": "did you mean 'ug2-2022/stage4/mvit_b32_k600'",
        "exp_adapt_bn/uniformer_b32_k600/best.pyth": "training writes it, so run that experiment first",
        "weights": "it is a folder",
        "some/where.pth": "some/where.pth: no such checkpoint",
    }.items():
        with pytest.raises(UserError) as caught:
            find_weights(name)
        assert text in str(caught.value)


def test_a_known_hash_is_checked_for_names_not_for_paths(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(Toy().state_dict(), folder / "weights" / "toy.pth")
    digest = sha256_file(folder / "weights" / "toy.pth")
    monkeypatch.setitem(zoo.ZOO, "toy", ZooEntry("toy.pth", "nowhere", digest))
    assert load_pretrained(Toy(), "toy").sha256 == digest
    monkeypatch.setitem(zoo.ZOO, "toy", ZooEntry("toy.pth", "nowhere", "0" * 64))
    with pytest.raises(
        UserError, match=f"not the published file: its sha256 is {digest}, expected {'0' * 64}"
    ):
        load_pretrained(Toy(), "toy")
    load_pretrained(Toy(), folder / "weights" / "toy.pth")
    monkeypatch.setitem(zoo.ZOO, "toy", ZooEntry("toy.pth", "nowhere"))
    assert load_pretrained(Toy(), "toy").share == 1.0


def test_the_table_of_names_is_that_of_the_model_zoo() -> None:
    text = (ROOT / "MODEL_ZOO.md").read_text(encoding="utf-8")
    for name, entry in PRETRAINED.items():
        [row] = [line for line in text.splitlines() if line.startswith(f"| `{name}` ")]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1] == f"`{entry.file}`"
        assert cells[-1] == (f"`{entry.sha256}`" if entry.sha256 else "unknown to us")


def test_the_table_of_trained_checkpoints_is_that_of_the_model_zoo() -> None:
    text = (ROOT / "MODEL_ZOO.md").read_text(encoding="utf-8")
    trained = [name for name in ZOO if name not in PRETRAINED]
    assert len(trained) == 21
    table = [line for line in text.splitlines() if line.startswith("| `ug2-2022/")]
    listed = []
    for line in table:
        stage, _, *accuracies = [cell.strip() for cell in line.strip("|").split("|")]
        stage = stage.split("`")[1]
        models = ("uniformer_b32_k600", "uniformer_b32_ssv2", "mvit_b32_k600", "sf32_k700")
        for model, accuracy in zip(models, accuracies, strict=True):
            name = f"{stage}/{model}"
            if accuracy == "-":
                assert name not in ZOO
                continue
            listed.append(name)
            entry = ZOO[name]
            # Rounded to a digit.
            assert abs(float(entry.accuracy.split()[0]) - float(accuracy)) < 0.0501
            assert entry.labels == "oracle"
            assert (ROOT / entry.config).is_file()
    assert sorted(listed) == sorted(trained)


def nonlocal_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state with the names of PySlowFast, whose non-local blocks call their norm `bn`."""
    return {re.sub(r"(_nonlocal\d+)\.norm\.", r"\1.bn.", name): v for name, v in state.items()}


def nonlocal_resnet() -> ResNet3D:
    torch.manual_seed(3)
    layout = ResNetLayout(nonlocal_blocks=(((), ()), ((0,), ()), ((), ()), ((), ())))
    model = ResNet3D(4, depth=18, width=8, layout=layout)
    for name, value in model.named_parameters():
        if "nonlocal" in name:
            torch.nn.init.normal_(value)
    return model.eval()


def test_norms_of_nonlocal_blocks_have_another_name_elsewhere(tmp_path: Path) -> None:
    trained = nonlocal_resnet()
    state = nonlocal_names(trained.state_dict())
    assert any(".bn.weight" in name and "nonlocal" in name for name in state)
    torch.save({"model_state": state}, tmp_path / "theirs.pyth")
    model = nonlocal_resnet()
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
    load_pretrained(model, tmp_path / "theirs.pyth", complete=True)
    clip = torch.randn(1, 3, 8, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(clip), trained(clip))


@pytest.mark.parametrize("lost", ["norm1.weight", "norm1.bias", "attn.qkv.bias"])
def test_a_lost_scale_or_bias_is_an_error_whatever_the_share(tmp_path: Path, lost: str) -> None:
    model = tiny_mvit()
    name = next(one for one in model.state_dict() if one.endswith(lost))
    state = {one: value for one, value in model.state_dict().items() if one != name}
    torch.save({"model_state": state}, tmp_path / "a.pyth")
    with pytest.raises(ArgumentError, match=rf"would be lost, first {re.escape(name)}"):
        load_pretrained(tiny_mvit(), tmp_path / "a.pyth", min_match=0.1)


def test_an_entry_under_another_name_is_an_error_whatever_the_share(tmp_path: Path) -> None:
    state = tiny_mvit().state_dict()
    name = next(one for one in state if one.endswith("attn.proj.weight"))
    state[name.replace("attn.proj", "attn.output")] = state.pop(name)
    torch.save({"model_state": state}, tmp_path / "a.pyth")
    with pytest.raises(ArgumentError, match=r"attn\.output\.weight \(the checkpoint's, not used\)"):
        load_pretrained(tiny_mvit(), tmp_path / "a.pyth", min_match=0.1)


def test_biases_of_queries_alone_are_not_dropped(tmp_path: Path) -> None:
    """VideoMAE keeps the biases of queries and values apart from the layer's weights."""
    state = tiny_mvit(attention=AttentionStyle(qkv_bias=False)).state_dict()
    name = next(one for one in state if one.endswith("attn.qkv.weight"))
    attention = name.removesuffix("qkv.weight")
    state[f"{attention}qkv.q_bias"] = torch.ones(len(state[name]) // 3)
    torch.save({"model_state": state}, tmp_path / "a.pyth")
    with pytest.raises(ArgumentError, match=r"q_bias \(the checkpoint's, not used\)"):
        load_pretrained(tiny_mvit(attention=AttentionStyle(qkv_bias=False)), tmp_path / "a.pyth")


def test_pools_that_pytorchvideo_names_twice_are_taken_once(tmp_path: Path) -> None:
    trained = tiny_mvit()
    theirs = {
        public_files.pytorchvideo_mvit(name): value for name, value in trained.state_dict().items()
    }
    for name in list(theirs):
        found = re.search(r"\.(pool|norm)_([qkv])\.", name)
        if found:
            module = f"._attention_pool_{found[2]}.{found[1]}."
            theirs[name.replace(found[0], module)] = theirs[name]
    assert len(theirs) > len(trained.state_dict())
    torch.save({"model_state": theirs}, tmp_path / "theirs.pyth")
    model = filled(tiny_mvit, 5)
    report = load_pretrained(model, tmp_path / "theirs.pyth", complete=True)
    assert not report.skipped
    for name, value in trained.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = tiny_mvit().state_dict()
    name = next(iter(state))
    state[name].view(-1)[0] = torch.nan
    torch.save({"model_state": state}, tmp_path / "a.pyth")
    with pytest.raises(ArgumentError, match=rf"{re.escape(name)} holds values that are not finite"):
        load_pretrained(tiny_mvit(), tmp_path / "a.pyth")
