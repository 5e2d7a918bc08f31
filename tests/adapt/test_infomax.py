"""Information maximisation against its formula, written out by hand in float64."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from nightcrawler.adapt.base import ReplayableClips
from nightcrawler.adapt.batchnorm import BatchNormAdapter
from nightcrawler.adapt.infomax import InfomaxAdapter, add_gradients
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from tests.adapt.test_tent import Net, clips, net
from tests.faults.ranks import on_ranks

NUM_CLASSES = 4


def infomax(lr: float = 1e-2) -> InfomaxAdapter:
    return InfomaxAdapter(lr, BatchNormAdapter())


def sharp(kind: str = "layer") -> Net:
    """A net of which some predictions are certain and some are not, in float64."""
    model = net(kind).double().eval()
    with torch.no_grad():
        model.head.weight *= 4
    return model


def joined(*sizes: int) -> torch.Tensor:
    return torch.cat(list(clips(*sizes))).double()


def loss_by_hand(model: Net, batch: torch.Tensor) -> torch.Tensor:
    probs = [torch.exp(row) / torch.exp(row).sum() for row in model(batch)]
    limit = 0.4 * math.log(NUM_CLASSES)
    numerator = denominator = torch.tensor(0.0, dtype=torch.float64)
    for row in probs:
        uncertainty = -sum(p * torch.log(p) for p in row)
        if uncertainty.item() < limit:
            weight = math.exp(limit - uncertainty.item())
            numerator = numerator + weight * uncertainty
            denominator = denominator + weight
    mean = sum(probs) / len(probs)
    return numerator / denominator + sum(m * torch.log(m) for m in mean)


@pytest.mark.parametrize("size", [1, 5, 16])
def test_the_gradient_is_that_of_the_formula(size: int) -> None:
    """However the clips of a step are batched."""
    batch = joined(16)
    model, reference = sharp(), sharp()
    entropies = torch.special.entr(reference(batch).softmax(1)).sum(1)
    is_certain = entropies < 0.4 * math.log(NUM_CLASSES)
    assert 2 <= is_certain.sum() <= 14
    loss_by_hand(reference, batch).backward()
    assert add_gradients(model, batch.split(size))
    for found, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["layer", "batch"])
def test_only_norms_move(kind: str) -> None:
    model, original = sharp(kind), sharp(kind)
    report = infomax().run(model, joined(20).split(10))
    assert torch.equal(model.head.weight, original.head.weight)
    assert torch.equal(model.head.bias, original.head.bias)
    assert not torch.equal(model.norm.weight, original.norm.weight)
    assert not torch.equal(model.norm.bias, original.norm.bias)
    assert (report.adapter, report.num_clips, len(report.layers)) == ("infomax", 20, 2)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_steps_are_adams_on_sixteen_clips_the_last_on_the_rest() -> None:
    """Two passes over 40 clips: steps on 16 and 24."""
    batch = joined(40)
    model, reference = sharp(), sharp()
    optimizer = torch.optim.Adam(reference.norm.parameters(), lr=1e-2)
    for _ in range(2):
        for share in (batch[:16], batch[16:]):
            optimizer.zero_grad()
            loss_by_hand(reference, share).backward()
            optimizer.step()
    infomax().run(model, batch.split(4))
    for name in ("weight", "bias"):
        torch.testing.assert_close(
            getattr(model.norm, name), getattr(reference.norm, name), rtol=1e-7, atol=1e-9
        )


def test_batches_do_not_matter() -> None:
    found = []
    for size in (1, 4, 8):
        model = sharp()
        infomax().run(model, joined(32).split(size))
        found.append(model(joined(32)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(found[2], found[0], rtol=1e-8, atol=1e-10)


def test_clips_that_are_shifted_are_told_apart_again() -> None:
    """Clusters of three classes, then an offset that sends most of them to one class."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(96) % 3
    centres = 2 * torch.randn(3, 24, generator=generator)
    values = centres[labels] + torch.randn(96, 24, generator=generator)
    model = nn.Sequential(nn.Flatten(), nn.LayerNorm(24), nn.Linear(24, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(50):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(values), labels).backward()
        optimizer.step()
    shifted = (values + 1.8 * (centres[0] - centres.mean(0))).reshape(96, 3, 2, 2, 2)

    def accuracy() -> float:
        return (model(shifted).argmax(1) == labels).double().mean().item()

    assert (model(values).argmax(1) == labels).all()
    before = accuracy()
    report = infomax(lr=5e-2).run(model, shifted.split(16))
    assert report.layers
    assert before < 0.8
    assert accuracy() > before + 0.1


def test_nothing_certain_leaves_the_model() -> None:
    model = net()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
    before = model.norm.weight.clone()
    report = infomax().run(model, clips(8))
    assert report.summary().startswith("infomax: the model is left as it is: none of 8 dark clips")
    assert torch.equal(model.norm.weight, before)


def test_what_cannot_be_adapted_is_an_error() -> None:
    with pytest.raises(UserError, match=r"infomax: Linear has no norm layer.*another adapter"):
        infomax().run(nn.Linear(2, 2), clips(8))
    with pytest.raises(UserError, match="infomax: no dark clip"):
        infomax().run(net(), [])
    with pytest.raises(UserError, match="infomax: 3 dark clips cannot show 4 classes"):
        infomax().run(net(), clips(2, 1))


def test_a_step_that_is_not_finite_is_put_back() -> None:
    model, original = sharp().float(), sharp().float()
    batches = [*clips(8), torch.full((2, 3, 2, 2, 2), float("nan"))]
    report = infomax().run(model, ReplayableClips(lambda: iter(batches)))
    assert report.summary().startswith("infomax: put back")
    assert torch.equal(model.norm.weight, original.norm.weight)


def adapt_a_share(folder: Path) -> None:
    """Each rank has every so many of the batches; the last of three has fewer than the others."""
    rank, world = distributed.rank(), distributed.world_size()
    model = sharp()
    batches = [batch.double() for batch in clips(8, 4, 4, 1, 8, 6, 4)]
    report = infomax().run(model, batches[rank::world])
    torch.save((model.state_dict(), report.num_clips), folder / f"{world}_{rank}.pt")


def test_ranks_take_the_steps_of_a_single_process(tmp_path: Path) -> None:
    adapt_a_share(tmp_path)
    expected, num_clips = torch.load(tmp_path / "1_0.pt", weights_only=True)
    assert num_clips == 35
    assert not torch.equal(expected["norm.weight"], sharp().norm.weight)
    on_ranks(3, tmp_path, adapt_a_share, tmp_path)
    for rank in range(3):
        found, count = torch.load(tmp_path / f"3_{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)
        assert count == num_clips
