"""Checkpoint surgery with a report: what was loaded, converted, skipped, missing.

A checkpoint either fills the model or is an error; nothing is skipped without being named.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nightcrawler.models.zoo import find_weights
from nightcrawler.utils.errors import UserError

CONTAINERS = ("model_state", "model", "state_dict", "model_state_dict")
PREFIXES = ("module.", "backbone.", "_orig_mod.", "encoder.")
HEADS = ("head.", "head_drop.", "projection.", "cls_head.", "fc.", "classifier.")
SHOWN = 5


@dataclass
class LoadReport:
    """What became of a checkpoint.

    Attributes:
        path: the file.
        loaded: entries taken as they are.
        converted: entries taken after a change, with the change (`inflated`, `rows by class name`).
        skipped: entries of the checkpoint that were not used, with the reason.
        missing: entries of the model that stay as they were.
        share: share of the model's parameters outside the head that were filled, 0 to 1.
    """

    path: Path
    loaded: list[str] = field(default_factory=list)
    converted: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    share: float = 0.0

    def summary(self) -> str:
        """One line."""
        return (
            f"{len(self.loaded)} loaded, {len(self.converted)} converted, {len(self.skipped)} skipped, "
            f"{len(self.missing)} missing; {100 * self.share:.1f} % of the backbone's parameters"
        )

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.summary()}"]
        for title, entries in (("converted", self.converted), ("skipped", self.skipped)):
            lines += [f"  {title} {name}: {why}" for name, why in list(entries.items())[:SHOWN]]
        lines += [f"  missing {name}" for name in self.missing[:SHOWN]]
        return "\n".join(lines)


def is_head(name: str) -> bool:
    """Whether an entry belongs to the classifier."""
    return name.startswith(HEADS)


def read_state(path: str | Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a checkpoint by name, prefixes stripped, and its class names where it has them.

    Raises:
        UserError: if the file is not a checkpoint of plain types and tensors. Nothing in it is ever executed.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        content: Any = _read_safetensors(path)
    else:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, AttributeError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0][:200]
            raise UserError(f"{path}: not a readable checkpoint of plain types and tensors ({reason})") from None
    names = content.get("class_names", []) if isinstance(content, dict) else []
    for container in CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(container), dict):
            content = content[container]
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: no tensors by name in it: not a checkpoint")
    state = {_stripped(str(name)): value for name, value in content.items() if isinstance(value, Tensor)}
    return state, [str(name) for name in names]


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from None
    names = metadata.get("class_names", "")
    return {"state_dict": state, "class_names": names.split("\n") if names else []}


def _stripped(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name.split(".", 1)[1]
    return name


def inflate(kernel: Tensor, time_dim: int, center: bool = False) -> Tensor:
    """A 2-D kernel `[O, I, H, W]` as 3-D `[O, I, T, H, W]` (Carreira and Zisserman 2017, section 2).

    Repeated over time and divided by its length, so that a still clip gives what the image gave; or put in the
    middle of zeros (`center`).
    """
    if center:
        inflated = kernel.new_zeros(*kernel.shape[:2], time_dim, *kernel.shape[2:])
        inflated[:, :, time_dim // 2] = kernel
        return inflated
    return kernel.unsqueeze(2).repeat(1, 1, time_dim, 1, 1) / time_dim


def _fitted(name: str, value: Tensor, target: Tensor) -> tuple[Tensor, str] | None:
    """`value` changed to the target's shape, and how; `None` where no rule applies."""
    if target.ndim == 5 and value.ndim == 4 and value.shape == target.shape[:2] + target.shape[3:]:
        return inflate(value, target.shape[2]), f"2-D kernel inflated over {target.shape[2]} frames"
    if value.numel() == target.numel() and value.squeeze().shape == target.squeeze().shape:
        return value.reshape(target.shape), f"{list(value.shape)} reshaped to {list(target.shape)}"
    return None


def _head_rows(value: Tensor, target: Tensor, source: Sequence[str], wanted: Sequence[str]) -> Tensor | None:
    """The classifier's rows reordered by class name; `None` unless every wanted class is in the source."""
    if len(source) != len(value) or len(wanted) != len(target) or value.shape[1:] != target.shape[1:]:
        return None
    places = {name: row for row, name in enumerate(source)}
    if not all(name in places for name in wanted):
        return None
    return value[torch.tensor([places[name] for name in wanted])]


def load_pretrained(
    model: nn.Module,
    name_or_path: str,
    *,
    min_match: float = 0.95,
    class_names: Sequence[str] = (),
    require_head: bool = False,
) -> LoadReport:
    """Fill `model` from a checkpoint.

    Args:
        model: filled in place, only if enough matches.
        name_or_path: a file, or a name of the zoo.
        min_match: least share of parameters outside the head that must be filled.
        class_names: the model's classes, to reorder a classifier by name.
        require_head: the classifier must be filled too (testing).

    Raises:
        UserError: if the file is missing or unreadable, or too little of it matches.
    """
    path = find_weights(name_or_path)
    state, source_names = read_state(path)
    report, filled = LoadReport(path), {}
    targets = model.state_dict()
    for name, value in state.items():
        if name not in targets:
            report.skipped[name] = "the model has no such entry"
            continue
        taken = _take(name, value, targets[name], source_names, class_names, report)
        if taken is not None:
            filled[name] = taken.to(targets[name].dtype)
    report.missing = [name for name in targets if name not in filled]
    _check_match(model, report, set(filled), min_match, require_head)
    model.load_state_dict(filled, strict=False)
    return report


def _take(
    name: str,
    value: Tensor,
    target: Tensor,
    source_names: Sequence[str],
    class_names: Sequence[str],
    report: LoadReport,
) -> Tensor | None:
    if is_head(name) and source_names and class_names and list(source_names) != list(class_names):
        rows = _head_rows(value, target, source_names, class_names)
        if rows is None:
            report.skipped[name] = f"classifier of {len(value)} other classes"
            return None
        report.converted[name] = "rows by class name"
        return rows
    if value.shape == target.shape:
        report.loaded.append(name)
        return value
    fitted = None if is_head(name) else _fitted(name, value, target)
    if fitted is None:
        report.skipped[name] = f"shape {list(value.shape)}, the model has {list(target.shape)}"
        return None
    report.converted[name] = fitted[1]
    return fitted[0]


def _check_match(model: nn.Module, report: LoadReport, filled: set[str], min_match: float, require_head: bool) -> None:
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters() if not is_head(name)}
    report.share = sum(size for name, size in sizes.items() if name in filled) / max(sum(sizes.values()), 1)
    missing_head = [name for name in report.missing if is_head(name)]
    faults = list(report.skipped.items())[:SHOWN] + [(name, "missing") for name in report.missing[:SHOWN]]
    shown = "; ".join(f"{name} ({why})" for name, why in faults)
    if report.share < min_match:
        raise UserError(
            f"{report.path}: fills only {100 * report.share:.1f} % of the backbone's parameters, MODEL.MIN_MATCH is "
            f"{100 * min_match:.1f} %: {shown}"
        )
    if require_head and missing_head:
        raise UserError(f"{report.path}: has no classifier for this model: {shown}")
