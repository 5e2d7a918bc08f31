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
from torch import Tensor, nn, optim
from torch.nn.modules.batchnorm import _BatchNorm

from nightcrawler.utils.lazy_registry import unknown_name

ADAM_EPSILON = 1e-8


def param_groups(
    model: nn.Module, weight_decay: float, bn_weight_decay: float, zero_wd_1d: bool
) -> list[dict[str, Any]]:
    """Group parameters as PySlowFast does: BatchNorm, other tensors, other 1-d tensors.

    Args:
        model: parameters that require gradients are grouped, without empty groups.
        weight_decay: weight decay of the second group.
        bn_weight_decay: weight decay of BatchNorm's scale and shift.
        zero_wd_1d: put one-dimensional parameters outside BatchNorm (biases, LayerNorm) into a
            third group without decay, instead of the second.

    Returns:
        Groups for a torch optimiser: `params` and `weight_decay`.
    """
    batchnorm: list[nn.Parameter] = []
    tensors: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for module in model.modules():
        # recurse=False: each parameter is visited once, with the module that owns it.
        for parameter in module.parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if isinstance(module, _BatchNorm):
                batchnorm.append(parameter)
            elif zero_wd_1d and parameter.ndim == 1:
                vectors.append(parameter)
            else:
                tensors.append(parameter)
    # The order is that of saved optimiser states: do not change it.
    groups = [(batchnorm, bn_weight_decay), (tensors, weight_decay), (vectors, 0.0)]
    return [{"params": params, "weight_decay": decay} for params, decay in groups if params]


def separate_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Copy gradients that share memory with another gradient.

    Call it before anything accumulates into the gradients or scales them in place. For a batch
    of one, torch can return views of one tensor: a class token and the position embedding added
    to it get the same gradient memory, and the next backward pass would then add to both twice.

    Args:
        parameters: their gradients are replaced where they overlap.
    """
    held: list[tuple[nn.Parameter, Tensor]] = []
    for parameter in parameters:
        if parameter.grad is not None:
            held.append((parameter, parameter.grad))
    # In the order of addresses, a gradient overlaps an earlier one if it starts before the
    # furthest end so far.
    end = 0
    for parameter, grad in sorted(held, key=lambda pair: pair[1].data_ptr()):
        first = grad.data_ptr()
        if first < end:
            parameter.grad = grad.clone()
        # Elements between the first and the last one, which strides may spread.
        extent = 1
        for size, stride in zip(grad.shape, grad.stride(), strict=True):
            extent += (size - 1) * stride
        end = max(end, first + extent * grad.element_size())


def cosine_with_warmup(
    base_lr: float,
    end_lr: float,
    warmup_start_lr: float,
    warmup_epochs: float,
    max_epoch: float,
    cosine_after_warmup: bool = True,
) -> ParamScheduler:
    """Return a linear warm-up followed by a half cosine (Loshchilov and Hutter 2017, eq. 5).

    With t the elapsed part of the cosine in [0, 1]: end + (base - end) (1 + cos(pi t)) / 2.

    A warm-up that is longer than training is cut off: its rate grows as slowly as asked for, and
    does not reach its end.

    Args:
        base_lr: learning rate at the start of the cosine.
        end_lr: learning rate at the end.
        warmup_start_lr: learning rate at the start.
        warmup_epochs: length of the warm-up, may be fractional.
        max_epoch: length of training.
        cosine_after_warmup: the cosine spans the epochs after the warm-up. Otherwise it spans
            all epochs, and the warm-up ends on it.

    Returns:
        A function of the elapsed part of training, epoch / `max_epoch` in [0, 1].

    Example:
        >>> schedule = cosine_with_warmup(1e-3, 1e-5, 1e-6, warmup_epochs=5, max_epoch=50)
        >>> schedule(5 / 50)
        0.001
    """
    share = warmup_epochs / max_epoch
    cosine = CosineParamScheduler(base_lr, end_lr)
    if share == 0:
        return cosine
    warmup_end_lr = base_lr
    scaling = "rescaled"
    if not cosine_after_warmup:
        # "fixed": the second scheduler keeps its own time, as if it had run from the start.
        warmup_end_lr = cosine(min(share, 1.0))
        scaling = "fixed"
    if share >= 1:
        reached_lr = warmup_start_lr + (warmup_end_lr - warmup_start_lr) / share
        return LinearParamScheduler(warmup_start_lr, reached_lr)
    warmup = LinearParamScheduler(warmup_start_lr, warmup_end_lr)
    return CompositeParamScheduler([warmup, cosine], [share, 1 - share], ["rescaled", scaling])


def build_schedule(cfg: CfgNode) -> ParamScheduler:
    """Build the schedule of the section `SOLVER`: a function of epoch / `SOLVER.MAX_EPOCH`."""
    solver = cfg.SOLVER
    return cosine_with_warmup(
        base_lr=solver.BASE_LR,
        end_lr=solver.COSINE_END_LR,
        warmup_start_lr=solver.WARMUP_START_LR,
        warmup_epochs=solver.WARMUP_EPOCHS,
        max_epoch=solver.MAX_EPOCH,
        cosine_after_warmup=solver.COSINE_AFTER_WARMUP,
    )


def build_optimizer(cfg: CfgNode, model: nn.Module) -> optim.Optimizer:
    """Build AdamW (Loshchilov and Hutter 2019) or SGD with momentum for a model.

    Raises:
        UserError: if `SOLVER.OPTIMIZING_METHOD` is neither `adamw` nor `sgd`.
    """
    solver = cfg.SOLVER
    groups = param_groups(model, solver.WEIGHT_DECAY, cfg.BN.WEIGHT_DECAY, solver.ZERO_WD_1D_PARAM)
    if solver.OPTIMIZING_METHOD == "adamw":
        return optim.AdamW(groups, lr=solver.BASE_LR, betas=tuple(solver.BETAS), eps=ADAM_EPSILON)
    if solver.OPTIMIZING_METHOD == "sgd":
        return optim.SGD(
            groups, lr=solver.BASE_LR, momentum=solver.MOMENTUM, nesterov=solver.MOMENTUM > 0
        )
    raise unknown_name("SOLVER.OPTIMIZING_METHOD", solver.OPTIMIZING_METHOD, ("adamw", "sgd"))
