"""A recomputed block: the numbers of a plain one, and each batch counted once by BatchNorm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nightcrawler.models.recompute import recomputed
from nightcrawler.models.uniformer import UniFormer
from tests.golden.fill import fill_state_dict
from tests.paths import ROOT

TINY = {"num_classes": 5, "depth": (1, 1, 2, 1), "embed_dim": (8, 16, 32, 32), "head_dim": 8}


def states_and_gradients(checkpoint: tuple[int, ...]) -> tuple[dict[str, torch.Tensor], list]:
    model = fill_state_dict(UniFormer(**TINY, drop_path=0.3, checkpoint=checkpoint))
    model.float().train()
    torch.manual_seed(5)
    for _ in range(2):
        model(torch.randn(4, 3, 4, 32, 32)).square().sum().backward()
    return model.state_dict(), [parameter.grad for parameter in model.parameters()]


def test_batchnorm_counts_a_recomputed_batch_once() -> None:
    """The case of the reading: statistics moved with a momentum of 0.19 for 0.1."""
    states, gradients = states_and_gradients((0, 0, 0, 0))
    others, other_gradients = states_and_gradients((1, 1, 2, 1))
    counters = [value for name, value in others.items() if name.endswith("num_batches_tracked")]
    assert counters
    assert {int(value) for value in counters} == {2}
    for name, value in states.items():
        assert torch.equal(value, others[name]), name
    assert all(torch.equal(a, b) for a, b in zip(gradients, other_gradients, strict=True))


@pytest.mark.parametrize("tracks", [True, False])
def test_layers_keep_their_buffers(tracks: bool) -> None:
    """The very tensors: others may hold them, such as a collective of several ranks."""
    block = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=tracks))
    before = dict(block.named_buffers())
    recomputed(block, torch.randn(4, 3)).sum().backward()
    after = dict(block.named_buffers())
    assert list(after) == list(before)
    assert all(after[name] is value for name, value in before.items())


def test_nothing_else_runs_a_block_again() -> None:
    users = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "nightcrawler").rglob("*.py"))
        if "torch.utils.checkpoint" in path.read_text(encoding="utf-8")
    ]
    assert users == ["nightcrawler/models/recompute.py"]


def test_a_compiled_block_counts_once_too() -> None:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    clips = torch.randn(4, 3)
    run = torch.compile(lambda x: recomputed(block, x), backend="aot_eager")
    run(clips).square().sum().backward()
    mean = block[0](clips).mean(dim=0)
    assert block[1].running_mean.tolist() == pytest.approx((0.1 * mean).tolist(), rel=1e-5)
    assert int(block[1].num_batches_tracked) == 1
