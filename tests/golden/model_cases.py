"""Cases of whole models: logits, inner activations, losses and gradients under the weight-fill rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nightcrawler.data.augment.mixup import mixup_target
from nightcrawler.engine.losses import soft_cross_entropy
from tests.golden.case import Check, Kind, absolute, exact, relative
from tests.golden.families import SOFTMAX_IN_EVAL, build_family
from tests.golden.fields import Refusal
from tests.golden.fill import check_fill, clip_formula, fill_state_dict

Case = Mapping[str, Any]


def _run_model(case: Case) -> Iterator[Check]:
    check_fill(case)
    mode = case["mode"]
    if mode not in ("eval", "train"):
        raise Refusal(f"mode {mode!r}, expected 'eval' or 'train'")
    # "all dropout / drop-path rates 0" in training: figures of random draws would be none.
    model = build_family(case["family"], case["resolved_config"], dropout=mode == "eval")
    yield from _check_state(model, case)
    fill_state_dict(model)
    yield from _check_training(model, case) if mode == "train" else _check_eval(model, case)


def _check_state(model: nn.Module, case: Case) -> Iterator[Check]:
    state = {name: list(value.shape) for name, value in model.state_dict().items()}
    if "state_dict_shapes" in case:
        expected = {name: list(shape) for name, shape in case["state_dict_shapes"].items()}
        yield exact("state_dict names in order", list(state), list(expected))
        yield exact("state_dict shapes", state, expected)
    yield exact("state_dict entries", len(state), case["num_state_keys"])
    yield exact(
        "parameters", sum(parameter.numel() for parameter in model.parameters()), case["num_params"]
    )


def _check_eval(model: nn.Module, case: Case) -> Iterator[Check]:
    shape = tuple(case["input_shape"])
    taps: dict[str, list[Tensor]] = {}
    modules = dict(model.named_modules())
    expected_taps = case.get("taps_float64", {})
    hooks = [_tap(modules[name], name, taps) for name in expected_taps if name in modules]
    with torch.no_grad():
        logits = model.eval()(clip_formula(shape))
    for hook in hooks:
        hook.remove()
    yield from _check_logits(logits, case, "float64", 1e-9)
    for name, expected in expected_taps.items():
        figures = expected if isinstance(expected, list) else [expected]
        values = taps.get(name, [])
        yield exact(f"{name} outputs", len(values), len(figures))
        for value, figure in zip(values, figures, strict=False):
            yield from _check_tap(name, value, figure)
    if "logits_float32" in case:
        with torch.no_grad():
            single = model.float()(clip_formula(shape, torch.float32))
        yield from _check_logits(single, case, "float32", 1e-4)


def _check_logits(logits: Tensor, case: Case, dtype: str, tolerance: float) -> Iterator[Check]:
    """Logits, and what the reference returns in eval mode: some return probabilities."""
    yield relative(f"{dtype} logits", logits, case[f"logits_{dtype}"], tolerance)
    if f"model_output_eval_{dtype}" in case:
        output = logits.softmax(dim=1) if case["family"] in SOFTMAX_IN_EVAL else logits
        yield relative(f"{dtype} output", output, case[f"model_output_eval_{dtype}"], tolerance)


def _tap(module: nn.Module, name: str, taps: dict[str, list[Tensor]]) -> Any:
    """Keep what a module returns: a tensor, or one for each pathway."""

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        outputs = [output] if isinstance(output, Tensor) else list(output)
        taps[name] = [value.detach() for value in outputs if isinstance(value, Tensor)]

    return module.register_forward_hook(keep)


def _check_tap(name: str, value: Tensor, expected: Mapping[str, Any]) -> Iterator[Check]:
    yield exact(f"{name} shape", list(value.shape), expected["shape"])
    scale = expected["l2"] / max(value.numel(), 1) ** 0.5
    yield relative(f"{name} l2", value.norm(), expected["l2"], 1e-9)
    yield absolute(f"{name} mean", value.mean(), expected["mean"], 1e-9 * scale)
    yield absolute(
        f"{name} first 4", value.contiguous().flatten()[:4], expected["first4"], 1e-8 * scale
    )


def _check_training(model: nn.Module, case: Case) -> Iterator[Check]:
    target = case["target"]
    soft = torch.tensor(target["soft_target"], dtype=torch.float64)
    mixed = mixup_target(
        torch.tensor(target["labels"]), soft.shape[1], target["lam"], target["label_smoothing"]
    )
    yield absolute("mixed target", mixed, target["soft_target"], 1e-7)
    yield from _check_step(model, case, soft, "float64", 1e-7)
    if "float32" in case:
        fill_state_dict(model, torch.float32)
        model.zero_grad()
        # Gradients of deep networks in float32 depend on the order of summation: the case tells by
        # how much its own are off.
        tolerance = 10 * case["f32_vs_f64"]["grad_l2_max_rel"] + 1e-5
        yield from _check_step(model, case, soft.float(), "float32", tolerance)


def _check_step(
    model: nn.Module, case: Case, target: Tensor, dtype: str, tolerance: float
) -> Iterator[Check]:
    """One forward and backward pass of a model with the filled weights."""
    expected = case[dtype]
    logits = model.train()(clip_formula(tuple(case["input_shape"]), target.dtype))
    loss = soft_cross_entropy(logits, target)
    loss.backward()
    yield relative(f"{dtype} loss", loss.item(), expected["loss"], tolerance)
    yield relative(f"{dtype} logits", logits.detach(), expected["logits"], tolerance)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    norms = {name: gradient.norm() for name, gradient in gradients.items()}
    total = torch.stack(list(norms.values())).norm().item()
    yield relative(f"{dtype} |grad|", total, expected["total_grad_l2"], tolerance)
    # `null` where the reference has no gradient. Where the gradient is 0, rounding leaves some.
    for name, norm in expected["grad_l2"].items():
        bound = tolerance * max(norm or 0.0, 1e-6 * total)
        yield absolute(f"{dtype} |grad {name}|", norms.get(name), norm, bound)
    for name, first in expected.get("grad_first4", {}).items():
        got = gradients[name].flatten()[:4] if name in gradients else None
        bound = tolerance * max(float(norms.get(name, 0.0)), 1e-6 * total)
        yield absolute(f"{dtype} grad {name}[:4]", got, first, bound)
    state = model.state_dict()
    for name, statistic in expected.get("bn_after_one_forward", {}).items():
        yield relative(f"{dtype} {name} after", state[name].norm(), statistic["l2"], tolerance)
        first = statistic["first4"]
        yield relative(f"{dtype} {name}[:4] after", state[name][:4], first, tolerance)
    yield from _check_counts(model, case, expected)


def _check_counts(model: nn.Module, case: Case, expected: Case) -> Iterator[Check]:
    """What has no gradient after a pass, and how many batches BatchNorm has seen."""
    if "num_batches_tracked_after" in expected:
        name = "num_batches_tracked"
        seen = {value.item() for key, value in model.state_dict().items() if key.endswith(name)}
        yield exact("batches seen", seen - {expected["num_batches_tracked_after"]}, set())
    if "params_without_grad" in case:
        told = case["params_without_grad"]
        without = [name for name, p in model.named_parameters() if p.grad is None]
        yield exact("parameters without gradient", len(without), told["count"])
        prefixes = tuple(told["prefixes"])
        others = [name for name in without if not name.startswith(prefixes)]
        yield exact("other parameters without gradient", others, [])


KINDS = [Kind("model", lambda case: "family" in case and "mode" in case, _run_model)]
