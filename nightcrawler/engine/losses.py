"""Losses on logits and soft targets."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nightcrawler.utils.registry import Registry

LOSSES = Registry("loss")


@LOSSES.register("soft_cross_entropy")
def soft_cross_entropy(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean over the batch of -sum_k t_k log softmax(z / T)_k.

    Args:
        logits: `[B, K]`.
        target: `[B, K]`, rows sum to 1.
        temperature: T.
    """
    return -(target * functional.log_softmax(logits / temperature, dim=1)).sum(dim=1).mean()


@LOSSES.register("kl")
def distillation(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 KL(p_T || q_T), mean over the batch (Hinton et al. 2015, section 2).

    The teacher's probabilities are softened as its logits would be: p_T is p^(1/T), normalised.

    Args:
        logits: the student's, `[B, K]`.
        target: the teacher's probabilities at T = 1, `[B, K]`.
        temperature: T.
    """
    log_teacher = target.clamp_min(torch.finfo(target.dtype).tiny).log() / temperature
    log_teacher = functional.log_softmax(log_teacher, dim=1)
    log_student = functional.log_softmax(logits / temperature, dim=1)
    loss = functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return temperature**2 * loss


@LOSSES.register("kl_published")
def distillation_published(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """The published form, for comparison: the teacher is divided by T, the mean runs over all B x K elements.

    Args:
        logits: `[B, K]`.
        target: the teacher's probabilities, `[B, K]`.
        temperature: T.
    """
    log_student = functional.log_softmax(logits / temperature, dim=1)
    return (
        temperature**2
        * functional.kl_div(log_student, target / temperature, reduction="none").mean()
    )
