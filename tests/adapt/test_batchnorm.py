"""BatchNorm adaptation against statistics computed by hand."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from fvcore.nn.precise_bn import update_bn_stats
from torch import nn

from nightcrawler.adapt.batchnorm import BatchNormAdapter, batchnorm_layers
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from tests.faults.ranks import on_ranks

UNEVEN = [4, 2, 1, 3, 2]


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [
        nn.BatchNorm3d(3),
        nn.Conv3d(3, 5, 1),
        nn.Dropout(0.5),
        nn.BatchNorm3d(5),
        nn.AdaptiveAvgPool3d(1),
    ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(5, 2)).double()


def clips(sizes: list[int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(size, 3, 2, 4, 4, dtype=torch.float64, generator=generator) * 3 + 1
        for size in sizes
    ]


def test_first_layer_gets_the_population_statistics_of_uneven_batches() -> None:
    model, batches = net(), clips([4, 2, 1])
    report = BatchNormAdapter().run(model, batches)
    everything = torch.cat(batches)
    expected = everything.mean(dim=(0, 2, 3, 4))
    torch.testing.assert_close(model[0].running_mean, expected)
    torch.testing.assert_close(model[0].running_var, everything.var(dim=(0, 2, 3, 4), correction=0))
    assert report.num_clips == 7
    assert [layer["name"] for layer in report.layers] == ["0", "3"]
    shift = report.layers[0]["shift"]
    assert shift == pytest.approx((expected.square() / (1 + 1e-5)).mean().sqrt().item())


@pytest.mark.parametrize("sizes", [[4, 4, 4], UNEVEN])
def test_statistics_are_those_of_fvcore(sizes: list[int]) -> None:
    """Which the published method calls, with dropout on: here it has none."""
    model = net()
    del model[2]
    theirs, batches = copy.deepcopy(model).train(), clips(sizes)
    update_bn_stats(theirs, iter(batches), len(batches))
    BatchNormAdapter().run(model, batches)
    for name, value in theirs.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-12, atol=1e-12)


def test_later_layers_see_batches_normalised_by_themselves_without_dropout() -> None:
    model, batches = net(), clips([4, 4])
    BatchNormAdapter().run(model, batches)
    by_hand = torch.cat(
        [model[1](nn.functional.batch_norm(batch, None, None, training=True)) for batch in batches]
    )
    torch.testing.assert_close(model[3].running_mean, by_hand.mean(dim=(0, 2, 3, 4)))


def test_blend_mixes_old_and_new() -> None:
    model, full = net(), net()
    old = model[0].running_mean.clone()
    BatchNormAdapter(blend=0.25).run(model, clips([4]))
    BatchNormAdapter().run(full, clips([4]))
    torch.testing.assert_close(model[0].running_mean, 0.75 * old + 0.25 * full[0].running_mean)


def test_nothing_but_the_statistics_changes() -> None:
    model = net().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    BatchNormAdapter().run(model, clips([4]))
    changed = [
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    ]
    assert changed == ["0.running_mean", "0.running_var", "3.running_mean", "3.running_var"]
    assert [module.training for module in model.modules()] == modes
    assert all(layer.momentum == 0.1 for layer in batchnorm_layers(model).values())
    assert not model[0]._forward_pre_hooks


def test_a_model_without_batchnorm_says_so() -> None:
    model = nn.Linear(3, 3)
    with pytest.raises(
        UserError, match=r"no BatchNorm layer.*adapter tent or none.*allow_no_batchnorm$"
    ):
        BatchNormAdapter().run(model, [])
    report = BatchNormAdapter(allow_no_batchnorm=True).run(model, [])
    assert "no BatchNorm layer" in report.summary()


def test_a_single_value_has_no_variance() -> None:
    with pytest.raises(UserError, match=r"one value a channel.*adapt to longer or larger clips"):
        BatchNormAdapter().run(nn.BatchNorm3d(3), [torch.zeros(1, 3, 1, 1, 1)])


def test_no_clip_is_an_error() -> None:
    with pytest.raises(UserError, match="no dark clip"):
        BatchNormAdapter().run(net(), [])


def adapt_a_share(folder: Path) -> None:
    """Each rank has every so many of the batches; the last of three has fewer than the others."""
    rank, world = distributed.rank(), distributed.world_size()
    model = net()
    report = BatchNormAdapter(blend=0.7).run(model, clips(UNEVEN)[rank::world])
    torch.save((model.state_dict(), report.num_clips, report.layers), folder / f"{world}_{rank}.pt")


def test_ranks_are_combined_by_counts(tmp_path: Path) -> None:
    """Equal to a single process in float64, on every rank."""
    adapt_a_share(tmp_path)
    expected, num_clips, layers = torch.load(tmp_path / "1_0.pt", weights_only=True)
    assert num_clips == sum(UNEVEN)
    on_ranks(3, tmp_path, adapt_a_share, tmp_path)
    for rank in range(3):
        found, count, moved = torch.load(tmp_path / f"3_{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
        assert count == num_clips
        for key in ("shift", "var_ratio"):
            assert [layer[key] for layer in moved] == pytest.approx(
                [layer[key] for layer in layers], rel=1e-12
            )
