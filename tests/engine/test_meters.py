"""Counting what is right."""

from __future__ import annotations

import torch

from nightcrawler.engine.meters import mixed_topk_correct

LOGITS = torch.tensor([[-1.0, -3.0, -2.0], [-1.0, -1.2, -3.0], [0.5, 1.0, -4.0]])


def test_a_smoothed_target_of_one_class_is_counted_as_its_label() -> None:
    smoothed = torch.full((3, 3), 0.05)
    smoothed[torch.arange(3), torch.tensor([0, 0, 1])] = 0.9
    assert mixed_topk_correct(LOGITS, smoothed, [1]).tolist() == [3]
    assert mixed_topk_correct(LOGITS, torch.eye(3)[[0, 0, 1]], [1]).tolist() == [3]


def test_a_mixed_target_adds_the_scores_of_its_classes() -> None:
    mixed = torch.tensor([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.3, 0.6, 0.1]])
    # -1 - 3 is below -2, -1 - 1.2 is above -3 but below the emptied 0, and 0.5 + 1 is above all.
    assert mixed_topk_correct(LOGITS, mixed, [1]).tolist() == [1]
