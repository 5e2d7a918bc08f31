"""Load checkpoints into models, with a report of what was loaded, converted, skipped, missing.

A checkpoint either fills the model or is an error. Nothing is skipped without being named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from nightcrawler.models.conversion import arrange_attention, convert
from nightcrawler.models.formats import (
    WeightsFile,
    nearest_format,
    plain_names,
    read_weights,
    recognise,
)
from nightcrawler.models.lost_entries import lost_entries, scales_and_biases
from nightcrawler.models.zoo import check_weights, obtain_weights
from nightcrawler.utils.errors import ArgumentError

# Prefixes of the classifier's entries in our models, and in those of torchvision and timm.
HEADS = ("head.", "head_dist.", "projection.", "fc.", "classifier.", "last_linear.", "probe.")
# Layers within a head that are no classifier: X3D's.
NECKS = ("head.conv_5", "head.lin_5")
# Part of the names of low-rank adapters, which begin without effect.
LORA = ".lora_"
SHOWN = 5


@dataclass
class LoadReport:
    """Report of loading a checkpoint.

    Attributes:
        path: of the file.
        sha256: of the file.
        format: format of its names.
        labels: label use, `label-free` or `oracle`; empty if the file does not record it.
        config_text: configuration that the file was trained with; empty if it does not record it.
        loaded: entries taken as they are.
        converted: entries taken after a change, with the change (`rows by class name`).
        skipped: entries of the checkpoint that were not used, with the reason.
        missing: entries of the model that keep their values.
        notes: further remarks.
        share: share of the model's parameters outside the head that were filled, 0 to 1.
    """

    path: Path
    sha256: str
    format: str
    labels: str = ""
    config_text: str = ""
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
        """Return the counts on one line."""
        return (
            f"{self.format}: {len(self.loaded)} loaded, {len(self.converted)} converted, "
            f"{len(self.skipped)} skipped, {len(self.missing)} missing; "
            f"{100 * self.share:.1f} % of the backbone's parameters"
        )

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.summary()}", f"sha256 {self.sha256}", *self.notes]
        lines += _first("converted", [f"{name}: {how}" for name, how in self.converted.items()])
        lines += _first("skipped", [f"{name}: {why}" for name, why in self.skipped.items()])
        lines += _first("missing", self.missing)
        return "\n  ".join(lines)

    def faults(self) -> str:
        """Return the first entries that did not fit, of the checkpoint and of the model."""
        shown = [f"{name} ({why})" for name, why in list(self.skipped.items())[:SHOWN]]
        shown += [f"{name} (missing)" for name in self.missing[:SHOWN]]
        return "; ".join(shown)


def _first(fate: str, entries: list[str]) -> list[str]:
    """Return one line for each of the first entries, and one that counts the rest."""
    lines = [f"{fate} {entry}" for entry in entries[:SHOWN]]
    more = len(entries) - SHOWN
    if more > 0:
        lines.append(f"... and {more} more {fate}")
    return lines


def is_head(name: str) -> bool:
    """Return whether an entry belongs to the classifier.

    Args:
        name: of the entry, without prefixes of wrappers.
    """
    return name.startswith(HEADS) and not name.startswith(NECKS)


class _Loading:
    """Matching of a checkpoint's entries with a model's.

    Args:
        model: is not changed.
        file: the checkpoint.
        class_names: the model's classes.
    """

    def __init__(self, model: nn.Module, file: WeightsFile, class_names: Sequence[str]) -> None:
        entries = model.state_dict()
        # A model in a wrapper has prefixes too: matching goes by plain names on both sides.
        self.own_names = plain_names(entries)
        self.targets = {plain: entries[name] for plain, name in self.own_names.items()}
        self._plain = {name: plain for plain, name in self.own_names.items()}
        # Only models with position tables have a grid.
        self.grid: Sequence[int] = getattr(model, "grid", ())
        self.file = file
        self.class_names = tuple(class_names)
        self.state, self.changes = arrange_attention(file.state, list(self.targets))
        known = "names of no known format"
        if file.format:
            known = file.format.name
        self.report = LoadReport(file.path, file.sha256, known, file.labels, file.config_text)
        self.filled: dict[str, Tensor] = {}

    def take_all(self) -> None:
        """Match every entry of the checkpoint."""
        for name, value in self.state.items():
            if name not in self.targets:
                self.report.skipped[name] = "the model has no such entry"
            elif is_head(name):
                self._take_head(name, value)
            else:
                self._take(name, value)
        self.report.missing = [name for name in self.targets if name not in self.filled]

    def incomplete(self) -> bool:
        """Return whether an entry is left over on either side."""
        left = [self.targets[name] for name in self.report.missing]
        left += [value for name, value in self.state.items() if name in self.report.skipped]
        # Counters of BatchNorm (integers) do not matter.
        return any(value.is_floating_point() for value in left)

    def lost(self, model: nn.Module) -> list[str]:
        """Return the entries outside the head whose loss a share of the parameters cannot see.

        Args:
            model: the model.
        """
        small = {self._plain[name] for name in scales_and_biases(model)}
        return lost_entries(
            {name: value for name, value in self.targets.items() if not is_head(name)},
            [name for name in self.report.missing if not is_head(name)],
            {name: self.state[name] for name in self.report.skipped if not is_head(name)},
            small,
        )

    def share(self, model: nn.Module) -> float:
        """Return the share of the parameters outside the head that are filled, 0 to 1.

        Args:
            model: the model.
        """
        parameters = dict(model.named_parameters())
        total = 0
        filled = 0
        for plain, name in self.own_names.items():
            # Buffers do not count: statistics are adapted anyway.
            if name not in parameters or is_head(plain) or LORA in plain:
                continue
            size = parameters[name].numel()
            total += size
            if plain in self.filled:
                filled += size
        return filled / max(total, 1)

    def _take(self, name: str, value: Tensor, change: str = "") -> None:
        """Take an entry, converted to the model's shape where a rule applies."""
        target = self.targets[name]
        changes = [text for text in (self.changes.get(name, ""), change) if text]
        if value.shape != target.shape:
            converted = None
            # A classifier of another size is never converted: its rows are classes.
            if not is_head(name):
                converted = convert(name, value, target, self.grid)
            if converted is None:
                self.report.skipped[name] = (
                    f"shape {list(value.shape)}, the model has {list(target.shape)}"
                )
                return
            value, conversion = converted
            changes.append(conversion)
        self.filled[name] = value
        if changes:
            self.report.converted[name] = ", ".join(changes)
        else:
            self.report.loaded.append(name)

    def _take_head(self, name: str, value: Tensor) -> None:
        """Take a classifier by class name, or by its size where one side has no class names."""
        source = self.file.class_names
        wanted = self.class_names
        rows = value.shape[:1]
        target_rows = self.targets[name].shape[:1]
        # Only rows that the file names one by one can be reordered.
        if source and wanted and source != wanted and rows == (len(source),):
            lacking = [repr(wish) for wish in wanted if wish not in source]
            if lacking:
                self.report.skipped[name] = (
                    f"classifier of {len(source)} classes, {len(lacking)} of the model's are not "
                    f"among them: {', '.join(lacking[:SHOWN])}"
                )
            else:
                order = torch.tensor([source.index(wish) for wish in wanted])
                self._take(name, value[order], "rows by class name")
        elif value.ndim == self.targets[name].ndim and rows != target_rows:
            self.report.skipped[name] = (
                f"classifier of {len(value)} classes, the model has {len(self.targets[name])}"
            )
        else:
            if wanted and not source:
                self.report.notes = [
                    "the file does not name its classes: classifier taken in the order of "
                    "class_names"
                ]
            else:
                self.report.notes = []
            self._take(name, value)


def load_pretrained(
    model: nn.Module,
    name_or_path: str | Path,
    *,
    min_match: float = 0.95,
    class_names: Sequence[str] = (),
    complete: bool = False,
) -> LoadReport:
    """Fill a model from a checkpoint.

    Args:
        model: filled in place, but only if enough matches.
        name_or_path: a file, or a name or address of `zoo.find_entry`, which is downloaded if it
            is missing.
        min_match: least share of the parameters outside the head that must be filled, 0 to 1. A
            checkpoint that fills none of them is an error for any share.
        class_names: the model's classes, to reorder a classifier by name.
        complete: the classifier and statistics must be filled too, and no entry be left over
            (for testing).

    Returns:
        The report.

    Raises:
        UserError: if the file is missing or unreadable.
        ArgumentError: if too little of it matches, or a block, token, position table, scale, bias,
            adapter or renamed entry would be lost.

    Example:
        >>> model = UniFormer(num_classes=11)
        >>> report = load_pretrained(model, "weights/uniformer_base_k600_32x4.pth")
        >>> print(report.summary())
    """
    file = read_weights(obtain_weights(name_or_path))
    # Before anything is matched: a truncated download can still hold most entries.
    check_weights(name_or_path, file.sha256)
    loading = _Loading(model, file, class_names)
    loading.take_all()
    report = loading.report
    report.share = loading.share(model)
    _check_finite(file, loading.filled)
    if report.share >= min_match:
        _check_adapters(loading)
    fault = _fault(loading, model, min_match, complete)
    if fault:
        comparison = _compare(file, list(loading.targets))
        raise ArgumentError(
            f"{file.path}: {fault}: {comparison}; first mismatches: {report.faults()}",
            "min_match",
        )
    # Not strict: entries that are missing are in the report, and keep their random values.
    filled = {loading.own_names[name]: value for name, value in loading.filled.items()}
    model.load_state_dict(filled, strict=False)
    return report


def _fault(loading: _Loading, model: nn.Module, min_match: float, complete: bool) -> str:
    """Return why a matched checkpoint must not be taken, or an empty text."""
    share = loading.report.share
    if share < min_match or not share:
        return (
            f"fills only {100 * share:.1f} % of the backbone's parameters, min_match is "
            f"{100 * min_match:.1f} %"
        )
    lost = loading.lost(model)
    if lost:
        return (
            f"{len(lost)} entries would be lost, first {', '.join(lost[:SHOWN])}; without them a "
            "model gives other answers, however small their share, so build it as the checkpoint's "
            "was"
        )
    if complete and loading.incomplete():
        return "its entries are not exactly those of this model"
    return ""


def _check_finite(file: WeightsFile, filled: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not finite: every answer would be NaN.

    Raises:
        ArgumentError: naming the first of them.
    """
    for name, value in filled.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ArgumentError(
                f"{file.path}: {name} holds values that are not finite: the run that wrote it had "
                "diverged, take an earlier checkpoint",
                "name_or_path",
            )


def _check_adapters(loading: _Loading) -> None:
    """Refuse to drop low-rank adapters, which hold all that such a training learned.

    Raises:
        ArgumentError: with the rank to build the model with.
    """
    for name, reason in loading.report.skipped.items():
        # The first of the two factors has a row for each rank.
        if f"{LORA}A." in name:
            rank = len(loading.state[name])
            raise ArgumentError(
                f"{loading.file.path}: low-rank adapters of rank {rank} would be lost, first "
                f"{name} ({reason}): build the model with adapters of rank {rank}",
                "lora_rank",
            )


def _compare(file: WeightsFile, model_names: Sequence[str]) -> str:
    """Describe a checkpoint's format beside the model's, to explain a mismatch."""
    nearest, share = nearest_format(file.state)
    ours = recognise(model_names)
    model = "of none of the formats known"
    if ours:
        model = ours.model
    if file.format is None:
        return (
            f"its names are of no format known (nearest is {nearest.name}, {100 * share:.0f} % of "
            "them)"
        )
    if ours and file.format.model == ours.model:
        return (
            f"it looks like a {file.format.name} file, as model '{model}' takes, but of another "
            "size or variant"
        )
    return (
        f"it looks like a {file.format.name} file, for model '{file.format.model}'; the model is "
        f"{model}"
    )
