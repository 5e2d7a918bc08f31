"""Checkpoint surgery with a report: what was loaded, converted, skipped, missing.

A checkpoint either fills the model or is an error; nothing is skipped without being named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from nightcrawler.models.formats import (
    WeightsFile,
    nearest_format,
    plain_names,
    read_weights,
    recognise,
)
from nightcrawler.models.zoo import check_weights, find_weights
from nightcrawler.utils.errors import UserError

# Of our models, and of those of torchvision and timm.
HEADS = ("head.", "head_dist.", "projection.", "fc.", "classifier.", "last_linear.")
SHOWN = 5


@dataclass
class LoadReport:
    """What became of a checkpoint.

    Attributes:
        path, sha256: of the file.
        format: whose names it uses.
        labels: `label-free` or `oracle`, how labels of dark clips were used; empty if the file does not say.
        loaded: entries taken as they are.
        converted: entries taken after a change, with the change (`inflated`, `rows by class name`).
        skipped: entries of the checkpoint that were not used, with the reason.
        missing: entries of the model that stay as they were.
        notes: what else one should know.
        share: share of the model's parameters outside the head that were filled, 0 to 1.
    """

    path: Path
    sha256: str
    format: str
    labels: str = ""
    loaded: list[str] = field(default_factory=list)
    converted: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    share: float = 0.0

    @property
    def filled(self) -> list[str]:
        """Entries of the model that were filled."""
        return [*self.loaded, *self.converted]

    def summary(self) -> str:
        """One line."""
        return (
            f"{self.format}: {len(self.loaded)} loaded, {len(self.converted)} converted, {len(self.skipped)} skipped, "
            f"{len(self.missing)} missing; {100 * self.share:.1f} % of the backbone's parameters"
        )

    def __str__(self) -> str:
        converted = [f"converted {name}: {how}" for name, how in self.converted.items()]
        skipped = [f"skipped {name}: {why}" for name, why in self.skipped.items()]
        missing = [f"missing {name}" for name in self.missing]
        lines = [f"{self.path}: {self.summary()}", f"sha256 {self.sha256}", *self.notes]
        for entries in (converted, skipped, missing):
            more = len(entries) - SHOWN
            lines += entries[:SHOWN] + (
                [f"... and {more} more {entries[0].split()[0]}"] if more > 0 else []
            )
        return "\n  ".join(lines)

    def faults(self) -> str:
        """The first entries that did not fit, of both sides."""
        shown = [f"{name} ({why})" for name, why in list(self.skipped.items())[:SHOWN]]
        return "; ".join(shown + [f"{name} (missing)" for name in self.missing[:SHOWN]])


def is_head(name: str) -> bool:
    """Whether an entry belongs to the classifier."""
    return name.startswith(HEADS)


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


def resize_table(table: Tensor, grid: Sequence[int], wanted: Sequence[int]) -> Tensor:
    """A table of positions `[N, C]` on a grid of one to three axes, interpolated (linearly) to another `[N', C]`."""
    mode = ("linear", "bilinear", "trilinear")[len(grid) - 1]
    volume = table.float().T.unflatten(1, tuple(grid))
    return functional.interpolate(volume[None], size=tuple(wanted), mode=mode)[0].flatten(1).T


def _resized(kind: str, value: Tensor, target: Tensor) -> Tensor | None:
    """A position table of one axis, or of a square, at the target's size."""
    if kind.startswith("rel_pos_"):
        return resize_table(value, value.shape[:1], target.shape[:1])
    if kind == "pos_embed_temporal":
        return resize_table(value[0], value.shape[1:2], target.shape[1:2])[None]
    sides = [(math.isqrt(table.shape[1]),) * 2 for table in (value, target)]
    square = [math.prod(side) for side in sides] == [value.shape[1], target.shape[1]]
    return resize_table(value[0], *sides)[None] if square else None


def _source_grid(tokens: int, grid: Sequence[int]) -> tuple[int, ...] | None:
    """The grid of a table of all times and places, which its length does not tell.

    Taken to have our number of frames (a file for another crop size) or, failing that, our places.
    """
    frames, height, width = grid
    side = math.isqrt(max(tokens, 0) // frames)
    if tokens > 0 and frames * side * side == tokens:
        return frames, side, side
    return (
        (tokens // (height * width), height, width)
        if tokens > 0 and tokens % (height * width) == 0
        else None
    )


def _fitted_positions(
    name: str, value: Tensor, target: Tensor, grid: Sequence[int]
) -> tuple[Tensor, str] | None:
    """Position tables of another size interpolated, and how; `None` where sizes do not tell their grid."""
    kind, how = (
        name.rpartition(".")[2],
        f"positions {list(value.shape)} interpolated to {list(target.shape)}",
    )
    if (
        not kind.startswith(("rel_pos_", "pos_embed"))
        or value.ndim != target.ndim
        or value.shape[-1] != target.shape[-1]
    ):
        return None
    if kind != "pos_embed":
        resized = _resized(kind, value, target)
        return None if resized is None else (resized, how)
    num_cls = target.shape[1] - math.prod(grid)
    source = _source_grid(value.shape[1] - num_cls, grid) if len(grid) == 3 else None
    if source is None:
        return None
    resized = resize_table(value[0, num_cls:], source, grid)[None]
    return torch.cat(
        [value[:, :num_cls], resized], dim=1
    ), f"{how}, taken as {' x '.join(map(str, source))} of them"


def _fitted(
    name: str, value: Tensor, target: Tensor, grid: Sequence[int]
) -> tuple[Tensor, str] | None:
    """`value` changed to the target's shape, and how; `None` where no rule applies."""
    kernel = value.squeeze(2) if value.ndim == 5 else value
    if target.ndim == 5 and kernel.shape == target.shape[:2] + target.shape[3:]:
        return inflate(
            kernel, target.shape[2]
        ), f"2-D kernel inflated over {target.shape[2]} frames"
    if value.numel() == target.numel() and value.squeeze().shape == target.squeeze().shape:
        return value.reshape(target.shape), f"{list(value.shape)} reshaped to {list(target.shape)}"
    return _fitted_positions(name, value, target, grid)


def arrange_attention(
    state: dict[str, Tensor], names: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Queries, keys and values as the model has them, in one layer (`qkv`) or three (`q`, `k`, `v`).

    Returns:
        The state, and what was done to entries of it.
    """
    arranged, how, wanted = dict(state), {}, set(names)
    for name in state:
        layer, _, leaf = name.rpartition(".")
        attention, _, kind = layer.rpartition(".")
        whole, parts = f"{attention}.qkv.{leaf}", [f"{attention}.{part}.{leaf}" for part in "qkv"]
        if name in wanted:
            continue
        if (
            kind == "q"
            and whole in wanted
            and len({getattr(state.get(part), "shape", None) for part in parts}) == 1
        ):
            tensors = [arranged.pop(part) for part in parts]
            arranged[whole], how[whole] = torch.cat(tensors), "q, k and v stacked"
        elif kind == "qkv" and wanted.issuperset(parts) and len(state[name]) % 3 == 0:
            arranged |= dict(zip(parts, arranged.pop(name).chunk(3), strict=True))
            how |= dict.fromkeys(parts, "taken from qkv")
    return arranged, how


class _Loading:
    """Decides entry by entry what a checkpoint gives a model, and reports it."""

    def __init__(self, model: nn.Module, file: WeightsFile, class_names: Sequence[str]) -> None:
        entries = model.state_dict()
        self.own_names = plain_names(entries)
        self.targets = {plain: entries[name] for plain, name in self.own_names.items()}
        # Only models with position tables have a grid.
        self.grid: Sequence[int] = getattr(model, "grid", ())
        self.file, self.class_names = file, tuple(class_names)
        self.state, self.how = arrange_attention(file.state, list(self.targets))
        known = file.format.name if file.format else "names of no known format"
        self.report = LoadReport(file.path, file.sha256, known, file.labels)
        self.filled: dict[str, Tensor] = {}

    def take_all(self) -> None:
        """Go through the checkpoint."""
        for name, value in self.state.items():
            if name not in self.targets:
                self.report.skipped[name] = "the model has no such entry"
            elif is_head(name):
                self._take_head(name, value)
            else:
                self._take(name, value)
        self.report.missing = [name for name in self.targets if name not in self.filled]

    def incomplete(self) -> bool:
        """Whether an entry is left over on either side; counters of BatchNorm do not matter."""
        left = [self.targets[name] for name in self.report.missing]
        left += [value for name, value in self.state.items() if name in self.report.skipped]
        return any(value.is_floating_point() for value in left)

    def _take(self, name: str, value: Tensor, how: str = "") -> None:
        target, hows = self.targets[name], [text for text in (self.how.get(name, ""), how) if text]
        if value.shape != target.shape:
            fitted = None if is_head(name) else _fitted(name, value, target, self.grid)
            if fitted is None:
                self.report.skipped[name] = (
                    f"shape {list(value.shape)}, the model has {list(target.shape)}"
                )
                return
            value, hows = fitted[0], [*hows, fitted[1]]
        self.filled[name] = value
        if hows:
            self.report.converted[name] = ", ".join(hows)
        else:
            self.report.loaded.append(name)

    def _take_head(self, name: str, value: Tensor) -> None:
        """A classifier by class name; by its size where one side does not name its classes."""
        source, wanted, rows = self.file.class_names, self.class_names, value.shape[:1]
        if source and wanted and source != wanted and rows == (len(source),):
            lacking = [repr(wish) for wish in wanted if wish not in source]
            if lacking:
                shown = ", ".join(lacking[:SHOWN])
                why = f"classifier of {len(source)} classes, {len(lacking)} of the model's are not among them: {shown}"
                self.report.skipped[name] = why
            else:
                order = torch.tensor([source.index(wish) for wish in wanted])
                self._take(name, value[order], "rows by class name")
        elif value.ndim == self.targets[name].ndim and rows != self.targets[name].shape[:1]:
            self.report.skipped[name] = (
                f"classifier of {len(value)} classes, the model has {len(self.targets[name])}"
            )
        else:
            note = "the file does not name its classes: classifier taken in the order of MODEL.CLASS_NAMES"
            self.report.notes = [note] if wanted and not source else []
            self._take(name, value)


def load_pretrained(
    model: nn.Module,
    name_or_path: str | Path,
    *,
    min_match: float = 0.95,
    class_names: Sequence[str] = (),
    complete: bool = False,
) -> LoadReport:
    """Fill `model` from a checkpoint.

    Args:
        model: filled in place, only if enough matches.
        name_or_path: a file, or a name of the zoo.
        min_match: least share of parameters outside the head that must be filled; nothing at all never is enough.
        class_names: the model's classes, to reorder a classifier by name.
        complete: the classifier and statistics must be filled too, and nothing be left over (testing).

    Raises:
        UserError: if the file is missing or unreadable, or too little of it matches.
    """
    file = read_weights(find_weights(name_or_path))
    check_weights(name_or_path, file.sha256)
    loading = _Loading(model, file, class_names)
    loading.take_all()
    report = loading.report
    parameters = dict(model.named_parameters())
    sizes = {
        plain: parameters[name].numel()
        for plain, name in loading.own_names.items()
        if name in parameters
    }
    backbone = {name for name in sizes if not is_head(name)}
    filled = sum(sizes[name] for name in backbone & loading.filled.keys())
    report.share = filled / max(sum(sizes[name] for name in backbone), 1)
    fault = ""
    if report.share < min_match or not filled:
        share, least = f"{100 * report.share:.1f} %", f"{100 * min_match:.1f} %"
        fault = f"fills only {share} of the backbone's parameters, MODEL.MIN_MATCH is {least}"
    elif complete and loading.incomplete():
        fault = "is not of this model, entry by entry"
    if fault:
        looks = _comparison(file, list(loading.targets))
        raise UserError(f"{file.path}: {fault}: {looks}; first mismatches: {report.faults()}")
    model.load_state_dict(
        {loading.own_names[name]: value for name, value in loading.filled.items()}, strict=False
    )
    return report


def _comparison(file: WeightsFile, model_names: Sequence[str]) -> str:
    """What the file looks like, beside the model."""
    nearest, share = nearest_format(file.state)
    ours = recognise(model_names)
    model = ours.model if ours else "of none of the formats known"
    if file.format is None:
        return f"its names are of no format known (nearest is {nearest.name}, {100 * share:.0f} % of them)"
    if ours and file.format.model == ours.model:
        return f"it looks like a {file.format.name} file, as MODEL.NAME {model} takes, but of another size or variant"
    return f"it looks like a {file.format.name} file, for MODEL.NAME {file.format.model}; the model is {model}"
