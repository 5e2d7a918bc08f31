"""Cases of whole models: logits, inner activations, losses and gradients under the weight-fill rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nightcrawler.engine.losses import soft_cross_entropy
from tests.golden.case import Check, Kind, absolute, exact, relative
from tests.golden.families import FAMILIES, build_family
from tests.golden.fill import clip_formula, fill_state_dict


def _run_model(case: dict[str, Any]) -> Iterator[Check]:
    model = build_family(case["family"], case["resolved_config"])
    yield from _check_state(model, case)
    fill_state_dict(model)
    yield from _check_training(model, case) if case["mode"] == "train" else _check_eval(model, case)


def _check_state(model: nn.Module, case: dict[str, Any]) -> Iterator[Check]:
    state = {name: list(value.shape) for name, value in model.state_dict().items()}
    if "state_dict_shapes" in case:
        expected = {name: list(shape) for name, shape in case["state_dict_shapes"].items()}
        yield exact("state_dict names in order", list(state), list(expected))
        yield exact("state_dict shapes", state, expected)
    yield exact("state_dict entries", len(state), case["num_state_keys"])
    yield exact(
        "parameters", sum(parameter.numel() for parameter in model.parameters()), case["num_params"]
    )


def _check_eval(model: nn.Module, case: dict[str, Any]) -> Iterator[Check]:
    shape = tuple(case["input_shape"])
    taps: dict[str, list[Tensor]] = {}
    hooks = [
        _tap(model, name, taps)
        for name in case.get("taps_float64", {})
        if name in dict(model.named_modules())
    ]
    with torch.no_grad():
        logits = model.eval()(clip_formula(shape))
    for hook in hooks:
        hook.remove()
    yield relative("float64 logits", logits, case["logits_float64"], 1e-9)
    for name, values in taps.items():
        expected = case["taps_float64"][name]
        for value, figures in zip(
            values, expected if isinstance(expected, list) else [expected], strict=True
        ):
            yield from _check_tap(name, value, figures)
    if "logits_float32" in case:
        with torch.no_grad():
            single = model.float()(clip_formula(shape, torch.float32))
        yield relative("float32 logits", single, case["logits_float32"], 1e-4)


def _tap(model: nn.Module, name: str, taps: dict[str, list[Tensor]]) -> Any:
    """Keep what a module returns: a tensor, or one for each pathway."""

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        outputs = [output] if isinstance(output, Tensor) else list(output)
        taps[name] = [value.detach() for value in outputs if isinstance(value, Tensor)]

    return model.get_submodule(name).register_forward_hook(keep)


def _check_tap(name: str, value: Tensor, expected: dict[str, Any]) -> Iterator[Check]:
    if list(value.shape) != expected["shape"]:
        return
    scale = expected["l2"] / max(value.numel(), 1) ** 0.5
    yield relative(f"{name} l2", value.norm(), expected["l2"], 1e-9)
    yield absolute(f"{name} mean", value.mean(), expected["mean"], 1e-9 * scale)
    yield absolute(
        f"{name} first 4", value.contiguous().flatten()[:4], expected["first4"], 1e-8 * scale
    )


def _check_training(model: nn.Module, case: dict[str, Any]) -> Iterator[Check]:
    expected = case["float64"]
    logits = model.train()(clip_formula(tuple(case["input_shape"])))
    loss = soft_cross_entropy(
        logits, torch.tensor(case["target"]["soft_target"], dtype=torch.float64)
    )
    loss.backward()
    yield relative("float64 loss", loss.item(), expected["loss"], 1e-7)
    yield relative("float64 logits", logits.detach(), expected["logits"], 1e-7)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    for name, norm in expected["grad_l2"].items():
        yield relative(f"|grad {name}|", gradients[name].norm(), norm, 1e-7)
    for name, first in expected.get("grad_first4", {}).items():
        scale = expected["grad_l2"].get(name, 1.0)
        yield absolute(f"grad {name}[:4]", gradients[name].flatten()[:4], first, 1e-7 * scale)
    total = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    yield relative("|grad|", total, expected["total_grad_l2"], 1e-7)
    state = model.state_dict()
    for name, statistic in expected.get("bn_after_one_forward", {}).items():
        yield relative(f"{name} after", state[name].norm(), statistic["l2"], 1e-7)
    if "params_without_grad" in case:
        without = [name for name, _ in model.named_parameters() if name not in gradients]
        yield exact(
            "parameters without gradient", len(without), case["params_without_grad"]["count"]
        )


KINDS = [
    Kind("model", lambda stem, case: case.get("family") in FAMILIES and "mode" in case, _run_model)
]
