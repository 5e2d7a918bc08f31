"""Parameter groups, optimisers and the learning-rate schedule."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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

from nightcrawler.config.schema.value_rules import LR_FACTOR
from nightcrawler.models.formats import plain_names
from nightcrawler.models.layer_order import layer_ids
from nightcrawler.utils.errors import UserError, argument_keys
from nightcrawler.utils.lazy_registry import unknown_name

ADAM_EPSILON = 1e-8


@dataclass(frozen=True)
class Rate:
    """Learning rate of a parameter beside the schedule's.

    Attributes:
        factor: over the schedule's.
        start: finished epochs from which on the parameter is trained.
    """

    factor: float = 1.0
    start: float = 0.0


PLAIN_RATE = Rate()


def param_groups(
    model: nn.Module,
    weight_decay: float,
    bn_weight_decay: float,
    zero_wd_1d: bool,
    rates: Mapping[str, Rate] | None = None,
) -> list[dict[str, Any]]:
    """Group parameters as PySlowFast does: BatchNorm, other tensors, other 1-d tensors.

    Args:
        model: parameters that require gradients are grouped, without empty groups.
        weight_decay: weight decay of the second group.
        bn_weight_decay: weight decay of BatchNorm's scale and shift.
        zero_wd_1d: put one-dimensional parameters outside BatchNorm (biases, LayerNorm) into a
            third group without decay, instead of the second.
        rates: rates by name, for parameters with a rate of their own. Each rate has three groups.

    Returns:
        Groups for a torch optimiser: `params`, `weight_decay`, and `lr_factor` and `lr_start` where
        there are rates.
    """
    known = rates or {}
    found: dict[Rate, tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]] = {}
    for module_name, module in model.named_modules():
        # recurse=False: each parameter is visited once, with the module that owns it.
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            full = f"{module_name}.{name}" if module_name else name
            batchnorm, tensors, vectors = found.setdefault(
                known.get(full, PLAIN_RATE), ([], [], [])
            )
            if isinstance(module, _BatchNorm):
                batchnorm.append(parameter)
            elif zero_wd_1d and parameter.ndim == 1:
                vectors.append(parameter)
            else:
                tensors.append(parameter)
    groups: list[dict[str, Any]] = []
    for rate, kinds in found.items():
        extra = {"lr_factor": rate.factor, "lr_start": rate.start} if rates else {}
        # The order is that of saved optimiser states: do not change it.
        for params, decay in zip(kinds, (bn_weight_decay, weight_decay, 0.0), strict=True):
            if params:
                groups.append({"params": params, "weight_decay": decay, **extra})
    return groups


def set_lr(optimizer: optim.Optimizer, lr: float, epoch: float) -> None:
    """Set the learning rate of every group.

    Args:
        optimizer: with groups of `param_groups`.
        lr: the schedule's.
        epoch: number of finished epochs, may be fractional.
    """
    for group in optimizer.param_groups:
        resting = epoch < group.get("lr_start", 0.0)
        group["lr"] = 0.0 if resting else lr * group.get("lr_factor", 1.0)


def rates_from_cfg(cfg: CfgNode, model: nn.Module) -> dict[str, Rate]:
    """Return the rates of parameters by name, from `LAYER_DECAY` and `LR_FACTORS` of `SOLVER`.

    Args:
        cfg: the configuration.
        model: whose names count, without prefixes of wrappers.

    Returns:
        Empty if all have the schedule's.

    Raises:
        UserError: if a pattern matches no trained parameter, or the order of layers is not known.
    """
    solver = cfg.SOLVER
    if solver.LAYER_DECAY == 1 and not solver.LR_FACTORS:
        return {}
    trained = [name for name, value in model.named_parameters() if value.requires_grad]
    factors = dict.fromkeys(trained, 1.0)
    starts = dict.fromkeys(trained, 0.0)
    if solver.LAYER_DECAY < 1:
        with argument_keys({"layer_decay": "SOLVER.LAYER_DECAY"}):
            numbers = layer_ids(model)
        top = max(numbers.values())
        factors = {name: solver.LAYER_DECAY ** (top - numbers[name]) for name in trained}
    names = plain_names(trained)
    for text in solver.LR_FACTORS:
        rule = LR_FACTOR.fullmatch(text)
        assert rule is not None
        matching = fnmatch.filter(names, rule["pattern"])
        if not matching:
            raise UserError(
                f"SOLVER.LR_FACTORS {text}: no trained parameter has such a name: the first are "
                f"{', '.join(list(names)[:3])}"
            )
        for plain in matching:
            factors[names[plain]] *= float(rule["factor"])
            starts[names[plain]] = max(starts[names[plain]], float(rule["epoch"] or 0))
    return {name: Rate(factors[name], starts[name]) for name in trained}


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
        UserError: if `SOLVER.OPTIMIZING_METHOD` is neither `adamw` nor `sgd`, or rates of groups of
            parameters do not fit the model.
    """
    solver = cfg.SOLVER
    groups = param_groups(
        model,
        solver.WEIGHT_DECAY,
        cfg.BN.WEIGHT_DECAY,
        solver.ZERO_WD_1D_PARAM,
        rates_from_cfg(cfg, model),
    )
    if solver.OPTIMIZING_METHOD == "adamw":
        return optim.AdamW(groups, lr=solver.BASE_LR, betas=tuple(solver.BETAS), eps=ADAM_EPSILON)
    if solver.OPTIMIZING_METHOD == "sgd":
        return optim.SGD(
            groups, lr=solver.BASE_LR, momentum=solver.MOMENTUM, nesterov=solver.MOMENTUM > 0
        )
    raise unknown_name("SOLVER.OPTIMIZING_METHOD", solver.OPTIMIZING_METHOD, ("adamw", "sgd"))
