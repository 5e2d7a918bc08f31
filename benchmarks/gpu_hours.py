"""Memory and hours of the method's trainings on one GPU, computed and not measured.

GFLOPs are counted from our models. An epoch has the clips of the published lists (DATASET.md), and
every forward pass counts: training, adaptation, validation and test.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from fvcore.common.config import CfgNode

from benchmarks.gpu import STEP_OVER_FORWARD
from nightcrawler.cli.info import count_activation_bytes
from nightcrawler.config.load import load_experiment
from nightcrawler.data.build import view_crop_pairs_of
from nightcrawler.data.build_clips import clip_shape_of
from nightcrawler.models.build import build_model
from nightcrawler.models.flops import count_gmacs

STAGES = {"adaptation": "exp_adapt_bn", "each round": "exp_pseudo_stage1"}
# Videos of the published lists.
VIDEOS = {
    "train": 2955,
    "val_dry": 330,
    "val_dark": 330,
    "arid": 6207,
    "total_unlabel": 9295,
    "test": 3103,
}
# Sizes of memory that cards have, in GiB, of which a tenth is left to kernels and fragments.
CARDS_GIB = (24, 80)
USABLE = 0.9
# Bytes of a parameter in training: weight, gradient, two moments of AdamW, each float32.
BYTES_PER_PARAMETER = 16
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Cost:
    """Cost of one model at full size, in bf16.

    Attributes:
        gmacs: 10^9 multiply-adds of a clip.
        clip_gib: activations that training keeps for a clip.
        fixed_gib: parameters, gradients and moments.
    """

    gmacs: float
    clip_gib: float
    fixed_gib: float

    def memory_gib(self, clips: int) -> float:
        """Return the memory of a training step on a number of clips at once."""
        return self.fixed_gib + clips * self.clip_gib

    def largest(self, card_gib: int) -> int:
        """Return the clips at once that a card has room for."""
        return max(int((USABLE * card_gib - self.fixed_gib) / self.clip_gib), 0)


def cost_of(cfg: CfgNode) -> Cost:
    """Return the cost of a configuration's model.

    Args:
        cfg: the configuration.
    """
    model = build_model(cfg)
    clip = (1, *clip_shape_of(cfg))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    activations = count_activation_bytes(model, clip, torch.bfloat16)
    fixed = BYTES_PER_PARAMETER * parameters / 2**30
    return Cost(count_gmacs(model, clip), activations / 2**30, fixed)


def forward_passes_of(cfg: CfgNode) -> int:
    """Return the forward passes of clips that a training and its test are worth.

    Args:
        cfg: the configuration of an experiment on the published lists.
    """
    batch = cfg.TRAIN.BATCH_SIZE
    labelled = VIDEOS[cfg.DATA.TRAIN_SPLIT]
    # Every dark clip may have a pseudo-label.
    pseudo = VIDEOS[cfg.ADAPT.SPLIT] if cfg.DATA.PSEUDO_CSV else 0
    steps = labelled // batch
    if pseudo and cfg.TRAIN.EPOCH_LENGTH == "pseudo":
        steps = pseudo // batch
    elif pseudo and cfg.TRAIN.EPOCH_LENGTH != "labelled":
        steps = max(steps, pseudo // batch)
    streams = 2 if pseudo else 1
    epochs = cfg.SOLVER.MAX_EPOCH
    training = epochs * steps * batch * cfg.AUG.NUM_SAMPLE * streams * STEP_OVER_FORWARD
    evaluations = -(-epochs // cfg.TRAIN.EVAL_PERIOD)
    splits = {*cfg.TRAIN.VAL_SPLITS, cfg.TRAIN.BEST_SPLIT}
    each = sum(VIDEOS[split] for split in splits)
    if cfg.ADAPT.NAME != "none":
        limit = cfg.BN.NUM_BATCHES_PRECISE * batch or VIDEOS[cfg.ADAPT.SPLIT]
        each += min(limit, VIDEOS[cfg.ADAPT.SPLIT])
    pairs = view_crop_pairs_of(cfg)
    most = max(views * crops for views, crops in pairs)
    return training + evaluations * each + VIDEOS[cfg.TEST.DATA_SELECT] * most


def hours_of(cost: Cost, passes: int, tflops: float) -> float:
    """Return the hours of a number of forward passes.

    Args:
        cost: of the model.
        passes: number of clips.
        tflops: rate that the card keeps up, in TFLOP/s (a multiply-add is two).
    """
    return passes * 2e-3 * cost.gmacs / tflops / SECONDS_PER_HOUR


def estimate(names: Sequence[str], tflops: float) -> Iterator[str]:
    """Yield the lines of a Markdown table: a row a model and stage.

    Args:
        names: some of `MODELS`.
        tflops: rate that the card keeps up, in TFLOP/s.
    """
    columns = ["model", "stage", "GFLOPs", "memory"]
    columns += [f"most clips at once, {card} GiB" for card in CARDS_GIB]
    columns += [f"hours at {tflops:g} TFLOP/s"]
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for name in names:
        cost = None
        for stage, folder in STAGES.items():
            cfg = load_experiment(f"{folder}/{name}/config.yaml")
            cost = cost or cost_of(cfg)
            at_once = cfg.TRAIN.MICRO_BATCH * cfg.AUG.NUM_SAMPLE
            cells = [name, stage, f"{cost.gmacs:.1f}", f"{cost.memory_gib(at_once):.0f} GiB"]
            cells += [str(cost.largest(card)) for card in CARDS_GIB]
            cells.append(f"{hours_of(cost, forward_passes_of(cfg), tflops):.1f}")
            yield f"| {' | '.join(cells)} |"
