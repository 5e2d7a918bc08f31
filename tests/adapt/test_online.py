"""BatchNorm statistics of a stream against averages written out by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from nightcrawler.adapt import online
from nightcrawler.adapt.online import START_SEC, OnlineBatchNorm, trust

HALF_LIFE_SEC = 10.0


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.BatchNorm3d(3), nn.Conv3d(3, 5, 1), nn.BatchNorm3d(5), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(5, 2)).eval()


def windows(count: int, shift: float = 3.0, clips: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(clips, 3, 2, 4, 4, generator=generator) + shift for _ in range(count)]


def follow(
    adapter: OnlineBatchNorm, model: nn.Module, parts: list[torch.Tensor], seconds: float = 4.0
) -> torch.Tensor:
    """Answer windows one after the other, of as many classes as there are windows."""
    answers = []
    with torch.inference_mode():
        for label, clips in enumerate(parts):
            with adapter.window():
                answers.append(model(clips))
            adapter.learn(seconds, seconds, label)
    return torch.cat(answers)


def statistics(model: nn.Sequential) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_statistics_fade_by_their_half_life() -> None:
    model, parts = net(), windows(3)
    adapter = OnlineBatchNorm(model, HALF_LIFE_SEC)
    follow(adapter, model, parts)
    weights = 4.0 * 0.5 ** (np.array([8.0, 4.0, 0.0]) / HALF_LIFE_SEC)
    assert adapter.seconds == pytest.approx(weights.sum())
    shares = weights / weights.sum()
    values = torch.stack([part.double().transpose(0, 1).flatten(1) for part in parts]).numpy()
    means = values.mean(axis=2)
    mean = shares @ means
    second = shares @ (values**2).mean(axis=2)
    spread = (shares @ means**2 - mean**2).mean() / (1 + 1e-5)
    num_classes = 1 / (shares**2).sum()
    share = trust((mean**2).mean() / (1 + 1e-5), spread, num_classes)
    share *= adapter.seconds / (adapter.seconds + START_SEC)
    assert share > 0.2
    seen = {}
    with adapter.window():
        seen = statistics(model)
    np.testing.assert_allclose(seen["0.running_mean"], share * mean, rtol=1e-5)
    expected = 1 + share * (second - mean**2 - 1)
    np.testing.assert_allclose(seen["0.running_var"], expected, rtol=1e-5)


def test_a_window_is_answered_by_those_before_and_the_model_stays_as_it_was() -> None:
    model = net()
    before, own = statistics(model), copy.deepcopy(model)
    adapter = OnlineBatchNorm(model)
    first, second = windows(2)
    with torch.inference_mode():
        answers = follow(adapter, model, [first, second])
        assert torch.equal(answers[:2], own(first))
        assert not torch.equal(answers[2:], own(second))
    after = statistics(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    adapter.restart()
    assert torch.equal(follow(adapter, model, [first, second]), answers)


def test_answers_do_not_depend_on_batches_of_clips() -> None:
    model, parts = net(), windows(4, clips=6)
    whole = follow(OnlineBatchNorm(model), model, parts)
    adapter = OnlineBatchNorm(model)
    answers = []
    with torch.inference_mode():
        for label, clips in enumerate(parts):
            with adapter.window():
                answers += [model(chunk) for chunk in clips.split(4)]
            adapter.learn(4.0, 4.0, label)
    torch.testing.assert_close(torch.cat(answers), whole)


def test_a_shift_that_classes_explain_is_not_followed() -> None:
    model = net()
    adapter = OnlineBatchNorm(model)
    # Windows of one class lie around its mean as far as the class lies from the others.
    generator = torch.Generator().manual_seed(2)
    offsets = 1.0 + torch.randn(200, 3, generator=generator).double()
    parts = [offset.float().reshape(1, 3, 1, 1, 1).expand(1, 3, 2, 4, 4) for offset in offsets]
    with torch.inference_mode():
        for part in parts:
            with adapter.window():
                model(part)
            adapter.learn(4.0, 4.0, class_id=0)
        with adapter.window():
            assert torch.equal(model[0].running_mean, torch.zeros(3))
    # The same shift of many classes is that of the camera.
    adapter.restart()
    follow(adapter, model, parts)
    with adapter.window():
        assert (model[0].running_mean > 0.5).all()


@pytest.mark.parametrize(
    ("shift", "spread", "num_classes", "expected"),
    [(1.0, 0.0, 1.0, 1.0), (1.0, 0.1, 1.0, 0.6), (1.0, 0.1, 4.0, 0.9), (0.0, 0.1, 1.0, 0.0)],
)
def test_trust(shift: float, spread: float, num_classes: float, expected: float) -> None:
    assert online.DOUBT == 4.0
    assert trust(shift, spread, num_classes) == pytest.approx(expected)


def test_memory_does_not_grow() -> None:
    model = net()
    adapter = OnlineBatchNorm(model)

    def kept() -> int:
        memories = adapter._memories.values()
        return sum(value.numel() for memory in memories for value in vars(memory).values())

    parts = windows(40)
    follow(adapter, model, parts[:2])
    before = kept()
    follow(adapter, model, parts)
    assert kept() == before
    assert not adapter._moments
    assert adapter.seconds < 1.5 * online.HALF_LIFE_SEC


def test_what_was_lost_of_a_window_does_not_count() -> None:
    model = net()
    adapter = OnlineBatchNorm(model, HALF_LIFE_SEC)
    follow(adapter, model, windows(1))
    with adapter.window():
        model(windows(1)[0])
    # A camera was away for ten seconds, and is back for two.
    adapter.learn(passed_sec=12.0, seen_sec=2.0, class_id=0)
    assert adapter.seconds == pytest.approx(4.0 * 0.5**1.2 + 2.0)
    adapter.learn(passed_sec=1.0, seen_sec=1.0, class_id=0)
    assert adapter.seconds == pytest.approx(4.0 * 0.5**1.2 + 2.0)


def test_a_model_without_batchnorm_has_no_layers() -> None:
    assert OnlineBatchNorm(nn.Sequential(nn.LayerNorm(3))).num_layers == 0
    assert OnlineBatchNorm(net()).num_layers == 2
