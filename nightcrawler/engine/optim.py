"""Parameter groups, optimisers and the learning-rate schedule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fvcore.common.config import CfgNode
from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    CosineParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)
from torch import nn, optim
from torch.nn.modules.batchnorm import _BatchNorm

from nightcrawler.utils.errors import UserError


def param_groups(
    model: nn.Module, weight_decay: float, bn_weight_decay: float, zero_wd_1d: bool
) -> list[dict[str, Any]]:
    """Three groups as in PySlowFast: BatchNorm's, other tensors, other one-dimensional tensors.

    Args:
        model: its parameters that require gradients are grouped; empty groups are left out.
        weight_decay: of tensors.
        bn_weight_decay: of BatchNorm's scale and shift.
        zero_wd_1d: one-dimensional parameters outside BatchNorm get no decay; else they are in the second group.
    """
    batchnorm, tensors, vectors = [], [], []
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if isinstance(module, _BatchNorm):
                batchnorm.append(parameter)
            elif zero_wd_1d and parameter.ndim == 1:
                vectors.append(parameter)
            else:
                tensors.append(parameter)
    groups = [(batchnorm, bn_weight_decay), (tensors, weight_decay), (vectors, 0.0)]
    return [{"params": params, "weight_decay": decay} for params, decay in groups if params]


def separate_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Copy gradients that share memory with another's, before anything is added to them or scales them in place.

    torch makes such ones of a batch of one: where a class token and its position are added, both have the same part of
    one tensor as their gradient, and what the next backward pass adds to one is added to the other too.
    """
    held = [parameter for parameter in parameters if parameter.grad is not None]
    end = 0
    for parameter in sorted(held, key=lambda parameter: parameter.grad.data_ptr()):
        grad = parameter.grad
        first = grad.data_ptr()
        if first < end:
            parameter.grad = grad.clone()
        steps = sum(
            (size - 1) * stride for size, stride in zip(grad.shape, grad.stride(), strict=True)
        )
        end = max(end, first + (steps + 1) * grad.element_size())


def cosine_with_warmup(
    base_lr: float,
    end_lr: float,
    warmup_start_lr: float,
    warmup_epochs: float,
    max_epoch: float,
    cosine_after_warmup: bool = True,
) -> ParamScheduler:
    """Linear warm-up, then a half cosine, over the share of training done (epoch / `max_epoch`, in [0, 1]).

    Args:
        base_lr: at the end of warm-up (of the cosine's start where it starts at 0).
        end_lr: at the end.
        warmup_start_lr: at the start.
        warmup_epochs: length of warm-up.
        max_epoch: length of training.
        cosine_after_warmup: the cosine spans what is left after warm-up; else all of training.
    """
    share = warmup_epochs / max_epoch
    cosine = CosineParamScheduler(base_lr, end_lr)
    if share == 0:
        return cosine
    if share >= 1:
        return LinearParamScheduler(
            warmup_start_lr, base_lr if cosine_after_warmup else cosine(1.0)
        )
    warmup_end_lr = base_lr if cosine_after_warmup else cosine(share)
    scaling = "rescaled" if cosine_after_warmup else "fixed"
    warmup = LinearParamScheduler(warmup_start_lr, warmup_end_lr)
    return CompositeParamScheduler([warmup, cosine], [share, 1 - share], ["rescaled", scaling])


def build_schedule(cfg: CfgNode) -> ParamScheduler:
    """The schedule of `SOLVER`: call it with epoch / MAX_EPOCH."""
    solver = cfg.SOLVER
    return cosine_with_warmup(
        solver.BASE_LR,
        solver.COSINE_END_LR,
        solver.WARMUP_START_LR,
        solver.WARMUP_EPOCHS,
        solver.MAX_EPOCH,
        solver.COSINE_AFTER_WARMUP,
    )


def build_optimizer(cfg: CfgNode, model: nn.Module) -> optim.Optimizer:
    """AdamW or SGD over the model's parameter groups."""
    solver = cfg.SOLVER
    groups = param_groups(model, solver.WEIGHT_DECAY, cfg.BN.WEIGHT_DECAY, solver.ZERO_WD_1D_PARAM)
    if solver.OPTIMIZING_METHOD == "adamw":
        return optim.AdamW(groups, lr=solver.BASE_LR, betas=tuple(solver.BETAS), eps=1e-8)
    if solver.OPTIMIZING_METHOD == "sgd":
        return optim.SGD(
            groups, lr=solver.BASE_LR, momentum=solver.MOMENTUM, nesterov=solver.MOMENTUM > 0
        )
    raise UserError(
        f"SOLVER.OPTIMIZING_METHOD is '{solver.OPTIMIZING_METHOD}': expected adamw or sgd"
    )
