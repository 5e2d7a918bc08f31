"""Entropy minimisation against a step written out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from nightcrawler.adapt.base import ReplayableClips
from nightcrawler.adapt.batchnorm import BatchNormAdapter
from nightcrawler.adapt.tent import TentAdapter, affine_parameters, entropy
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from tests.faults.ranks import on_ranks

LR = 0.1


class Net(nn.Module):
    """A classifier of `[B, 3, 2, 2, 2]` with one norm of the wanted kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(24) if kind == "layer" else nn.BatchNorm1d(24)
        self.head = nn.Linear(24, 4)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(clip.flatten(1)))


def net(kind: str = "layer") -> Net:
    torch.manual_seed(0)
    return Net(kind)


def clips(*sizes: int) -> ReplayableClips:
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randn(size, 3, 2, 2, 2, generator=generator) for size in sizes]
    return ReplayableClips(lambda: iter(batches))


def tent(**options: float) -> TentAdapter:
    return TentAdapter(LR, BatchNormAdapter(), **options)


def test_entropy_is_shannons() -> None:
    probs = torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]], dtype=torch.float64)
    expected = [1.5 * torch.tensor(2.0).log().item(), torch.tensor(3.0).log().item()]
    torch.testing.assert_close(
        entropy(probs.log()), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=0
    )


def test_one_batch_is_one_step_down_the_entropy() -> None:
    model, reference = net(), net()
    (batch,) = clips(6)
    logits = reference(batch)
    probs = logits.softmax(-1)
    (-(probs * probs.log()).sum(-1).mean()).backward()
    report = tent().run(model, clips(6))
    for name in ("weight", "bias"):
        old, grad = getattr(reference.norm, name).detach(), getattr(reference.norm, name).grad
        torch.testing.assert_close(getattr(model.norm, name).detach(), old - LR * grad)
    assert torch.equal(model.head.weight, reference.head.weight)
    assert all(
        parameter.requires_grad and parameter.grad is None for parameter in model.parameters()
    )
    assert (report.num_clips, len(report.layers)) == (6, 2)
    assert "of its size" in report.summary()


def test_entropy_falls_and_the_mode_is_kept() -> None:
    model, data = net().train(), clips(8, 8, 8, 8)
    everything = torch.cat(list(data))

    def mean_entropy() -> float:
        with torch.no_grad():
            return entropy(model(everything)).mean().item()

    before = mean_entropy()
    tent().run(model, data)
    assert mean_entropy() < before - 1e-3
    assert model.training


def test_statistics_come_first_where_there_is_batchnorm() -> None:
    model, twin, data = net("batch").eval(), net("batch").eval(), clips(8, 8)
    BatchNormAdapter().run(twin, data)
    tent().run(model, data)
    torch.testing.assert_close(model.norm.running_mean, twin.norm.running_mean)
    assert not torch.equal(model.norm.weight, twin.norm.weight)


def test_a_collapse_is_put_back() -> None:
    """Where the model in the end, not on the way, predicts fewer classes than it did: about half of them."""
    data = clips(8, 8, 8, 8)
    everything = torch.cat(list(data))

    def num_classes(model: Net) -> float:
        with torch.no_grad():
            mean = model.eval()(everything).double().softmax(1).mean(0)
        return float(torch.exp(-(mean * mean.log()).sum()))

    original, collapsed = net(), net()
    adapter = TentAdapter(5.0, BatchNormAdapter(), min_classes=0.0)
    adapter.run(collapsed, data)
    left = num_classes(collapsed) / num_classes(original)
    assert left < 0.9
    for share, kept in ((left + 0.01, False), (left - 0.01, True)):
        model = net()
        report = TentAdapter(5.0, BatchNormAdapter(), min_classes=share).run(model, data)
        assert report.note.startswith("tent: put back") != kept
        assert torch.equal(model.norm.weight, (collapsed if kept else original).norm.weight)


def test_a_step_that_is_not_finite_is_put_back() -> None:
    model, original = net(), net()
    batches = [torch.full((2, 3, 2, 2, 2), float("nan"))]
    assert "put back" in tent().run(model, batches).summary()
    assert torch.equal(model.norm.weight, original.norm.weight)


def test_nothing_to_adapt_is_an_error() -> None:
    with pytest.raises(UserError, match="no norm layer"):
        tent().run(nn.Linear(2, 2), clips(2))
    with pytest.raises(UserError, match="no dark clip"):
        tent().run(net(), [])
    assert list(affine_parameters(net())) == ["norm.weight", "norm.bias"]


def adapt_a_share(folder: Path) -> None:
    """Each rank has every so many of the batches; the last of three has fewer than the others."""
    rank, world = distributed.rank(), distributed.world_size()
    model = net().double()
    report = tent().run(model, [batch.double() for batch in clips(4, 2, 1, 3, 2)][rank::world])
    torch.save((model.state_dict(), report.num_clips, report.layers), folder / f"{world}_{rank}.pt")


def test_ranks_take_the_steps_of_a_single_process(tmp_path: Path) -> None:
    """The same steps in the same order, on every rank."""
    adapt_a_share(tmp_path)
    expected, num_clips, layers = torch.load(tmp_path / "1_0.pt", weights_only=True)
    assert (num_clips, len(layers)) == (12, 2)
    on_ranks(3, tmp_path, adapt_a_share, tmp_path)
    for rank in range(3):
        found, count, moved = torch.load(tmp_path / f"3_{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
        assert (count, moved) == (num_clips, layers)
