"""Trainer and evaluator from a configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from nightcrawler.adapt.build import build_adapter
from nightcrawler.data.build import (
    EvalSet,
    TrainStream,
    build_adapt_loader,
    build_eval_set,
    build_train_streams,
)
from nightcrawler.data.build_clips import build_mixup, clip_shape_of
from nightcrawler.data.dataset import clips_to_device
from nightcrawler.engine import checkpoint_files
from nightcrawler.engine.bad_videos import BadVideoLedger
from nightcrawler.engine.batches import iterate_batches
from nightcrawler.engine.clean_labels import CleanLabels
from nightcrawler.engine.evaluator import Evaluator
from nightcrawler.engine.losses import HARD_LABEL_LOSSES, labelled_loss
from nightcrawler.engine.metric_logger import MetricLogger
from nightcrawler.engine.optim import build_optimizer, build_schedule
from nightcrawler.engine.pictures import ValidationPictures
from nightcrawler.engine.resume import check_ranks_agree, resume, start_from_cfg
from nightcrawler.engine.run_metadata import data_stamps_of, run_metadata_of
from nightcrawler.engine.trainer import AdaptClips, Trainer
from nightcrawler.engine.trainer_config import StreamLoss, TrainerConfig
from nightcrawler.engine.writers.build import build_writers
from nightcrawler.models.build import build_model
from nightcrawler.models.flops import count_gmacs
from nightcrawler.utils import distributed
from nightcrawler.utils.env import seed_everything
from nightcrawler.utils.errors import ConfigError, UserError
from nightcrawler.utils.logging import get_logger
from nightcrawler.utils.registries import LOSSES

logger = get_logger(__name__)

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# On shorter clips, kernels are longer than the pooled time axis, and oneDNN's bf16 weight
# gradients are then wrong.
SAFE_BF16_FRAMES = 16
# Attributes of `TrainerConfig` that messages mention, to the keys that set them.
KEYS = {
    "output_dir": "OUTPUT_DIR",
    "max_bad_fraction": "DATA.MAX_BAD_FRACTION",
    "max_failed_saves": "TRAIN.MAX_FAILED_SAVES",
    "non_finite": "TRAIN.NON_FINITE",
}


def build_device(cfg: CfgNode) -> torch.device:
    """Choose the device, set the number of threads, join the process group, seed everything.

    Args:
        cfg: the configuration.

    Raises:
        ConfigError: if `NUM_GPUS` x `NUM_SHARDS` is not the number of launched processes, or the
            precision is not available on the device.
    """
    device = distributed.choose_device(cfg.DEVICE)
    if cfg.NUM_THREADS:
        torch.set_num_threads(cfg.NUM_THREADS)
    distributed.init_process_group(device, cfg.DIST_BACKEND, cfg.DIST_TIMEOUT_SEC)
    launched = distributed.launched_world()
    num_machines = max(cfg.NUM_SHARDS, 1)
    if cfg.NUM_GPUS and cfg.NUM_GPUS * num_machines != launched:
        raise ConfigError(
            f"NUM_GPUS {cfg.NUM_GPUS} x NUM_SHARDS {num_machines} does not match the {launched} "
            "processes that were launched: start through run.sh (NPROC=<processes per machine>), "
            "or leave both at 0"
        )
    # Most CPU kernels have no float16 version.
    if cfg.MODEL.PRECISION == "fp16" and device.type == "cpu":
        raise ConfigError("MODEL.PRECISION fp16 needs CUDA: use bf16 or fp32 on a CPU")
    seed_everything(cfg.RNG_SEED)
    return device


def build_placed_model(cfg: CfgNode, device: torch.device) -> nn.Module:
    """Build the model on its device, in its memory format.

    Args:
        cfg: the configuration.
        device: device of the model.
    """
    model = build_model(cfg).to(device)
    if cfg.MODEL.CHANNELS_LAST:
        model = model.to(memory_format=torch.channels_last_3d)
    return model


def build_evaluator(cfg: CfgNode, device: torch.device) -> Evaluator:
    """Build the evaluator of the section `TEST`.

    Args:
        cfg: the configuration.
        device: device of the model.
    """
    return Evaluator(
        batch_clips=cfg.TEST.BATCH_SIZE,
        device=device,
        precision=PRECISIONS[cfg.MODEL.PRECISION],
        method=cfg.TEST.ENSEMBLE_METHOD,
        channels_last=cfg.MODEL.CHANNELS_LAST,
    )


def build_stream_losses(cfg: CfgNode) -> list[StreamLoss]:
    """Build the streams with their losses.

    Args:
        cfg: the configuration.

    Returns:
        The labelled stream with cross entropy, and the pseudo-label stream, if there is one, with
        `MODEL.PSEUDO_LOSS`.

    Raises:
        UserError: if the loss needs probabilities and the pseudo-labels have none.
    """
    labelled, *pseudo = build_train_streams(cfg)
    labels = torch.tensor([item.label for item in labelled.items])
    counts = torch.bincount(labels, minlength=cfg.MODEL.NUM_CLASSES)
    loss = labelled_loss(cfg.TRAIN.BALANCE_LABELLED, counts, cfg.MIXUP.LABEL_SMOOTH_VALUE)
    first = StreamLoss(labelled, build_mixup(cfg), loss)
    return [first, *(_build_pseudo_loss(cfg, stream) for stream in pseudo)]


def _build_pseudo_loss(cfg: CfgNode, stream: TrainStream) -> StreamLoss:
    name = cfg.MODEL.PSEUDO_LOSS
    soft = name not in HARD_LABEL_LOSSES
    if soft and stream.items[0].probs is None:
        raise UserError(
            f"MODEL.PSEUDO_LOSS {name} needs probabilities, and {cfg.DATA.PSEUDO_CSV} has none"
        )
    return StreamLoss(
        stream=stream,
        mixup=build_mixup(cfg),
        loss=LOSSES.get(name)(temperature=cfg.MODEL.PSEUDO_TEMPERATURE),
        soft=soft,
        weight=cfg.TRAIN.PSEUDO_WEIGHT,
        ramp_epochs=cfg.TRAIN.PSEUDO_RAMP_EPOCHS,
    )


def build_adapt_clips(cfg: CfgNode, device: torch.device) -> AdaptClips:
    """Build the source of unlabelled clips for adaptation.

    Args:
        cfg: the configuration.
        device: device of the clips.

    Returns:
        Epoch and ledger to this rank's clips, float32 `[B, 3, T, h, w]` on the device. Without
        an adapter there are none.
    """
    if cfg.ADAPT.NAME == "none":
        return _no_clips
    sampler, loader, items = build_adapt_loader(cfg)
    layout = torch.contiguous_format
    if cfg.MODEL.CHANNELS_LAST:
        layout = torch.channels_last_3d

    def clips(epoch: int, bad_videos: BadVideoLedger) -> Iterator[Tensor]:
        sampler.set_position(epoch)
        for batch in iterate_batches(loader, items, "adaptation"):
            bad_videos.add("adapt", len(items), batch["bad"])
            if batch["clip"] is not None:
                yield clips_to_device(batch["clip"], device).contiguous(memory_format=layout)

    return clips


def _no_clips(epoch: int, bad_videos: BadVideoLedger) -> Iterator[Tensor]:
    return iter(())


def build_trainer(cfg: CfgNode) -> Trainer:
    """Build a trainer that is ready to start, at the same position on every rank.

    It starts from the first of these that exists, as a log line that begins with `start:` tells:
    the newest readable checkpoint in `OUTPUT_DIR` (if `TRAIN.AUTO_RESUME`), which must be of the
    same configuration and lists, the weights of `TRAIN.CHECKPOINT_FILE_PATH`, random weights.

    Args:
        cfg: the configuration.

    Raises:
        UserError: if checkpoints are of another configuration, none of them can be read, or ranks
            find different ones.

    Example:
        >>> cfg = load_experiment("exp_adapt_bn/uniformer_b32_k600/config.yaml", [], [])
        >>> best = build_trainer(cfg).fit()
    """
    device = build_device(cfg)
    _build_precision_warning(cfg, device)
    model = build_placed_model(cfg, device)
    resumable = None
    start = None
    if cfg.TRAIN.AUTO_RESUME:
        resumable = checkpoint_files.find_resume(cfg.OUTPUT_DIR)
    if resumable is None:
        start = start_from_cfg(cfg, model)
    # Files are hashed now: one that changes during the run is noticed when it is resumed.
    run_metadata = {**run_metadata_of(cfg), **data_stamps_of(cfg)}
    gmacs = count_gmacs(model, (1, *clip_shape_of(cfg)))
    if cfg.MODEL.COMPILE:
        # In place: `torch.compile(model)` would prefix the names in checkpoints.
        model.compile()
    # The order is that of random draws and log lines: do not rearrange.
    optimizer = build_optimizer(cfg, model)
    stream_losses = build_stream_losses(cfg)
    trainer = Trainer(
        model=model,
        optimizer=optimizer,
        stream_losses=stream_losses,
        adapter=build_adapter(cfg),
        adapt_clips=build_adapt_clips(cfg, device),
        eval_sets=_build_eval_sets(cfg),
        evaluator=build_evaluator(cfg, device),
        metric_logger=_build_metric_logger(cfg, run_metadata["labels"], resumable is not None),
        config=build_trainer_config(cfg, device, run_metadata, gmacs),
        clean_labels=_build_clean_labels(cfg, stream_losses),
        pictures=_build_pictures(cfg),
    )
    if resumable is not None:
        path, state = resumable
        resume(trainer, path, state)
    elif start is not None:
        trainer.load_state(start, of_this_run=False)
    check_ranks_agree(trainer)
    return trainer


def _build_precision_warning(cfg: CfgNode, device: torch.device) -> None:
    short = cfg.DATA.NUM_FRAMES < SAFE_BF16_FRAMES
    if cfg.MODEL.PRECISION == "bf16" and device.type == "cpu" and short:
        logger.warning(
            "MODEL.PRECISION bf16 on a CPU: gradients of 3-D convolutions are wrong on clips of "
            "fewer than %d frames (oneDNN); use fp32",
            SAFE_BF16_FRAMES,
        )


def _build_eval_sets(cfg: CfgNode) -> list[EvalSet]:
    """Build the validated splits and refuse a `TRAIN.BEST_SPLIT` without labels."""
    eval_sets = []
    # Each split once, in the order of the configuration.
    for split in dict.fromkeys([*cfg.TRAIN.VAL_SPLITS, cfg.TRAIN.BEST_SPLIT]):
        eval_set = build_eval_set(cfg, split, "VAL", [(1, 1)])
        unlabelled = all(item.label < 0 for item in eval_set.items)
        if split == cfg.TRAIN.BEST_SPLIT and unlabelled:
            raise UserError(
                f"TRAIN.BEST_SPLIT '{split}': no video has a label, so it cannot pick "
                f"{checkpoint_files.BEST}"
            )
        eval_sets.append(eval_set)
    return eval_sets


def _build_clean_labels(cfg: CfgNode, stream_losses: Sequence[StreamLoss]) -> CleanLabels | None:
    """Build the choice of clean labels, `None` without pseudo-labels or where all are kept."""
    if cfg.TRAIN.KEEP_CLEAN == 1 or len(stream_losses) == 1:
        return None
    stream = stream_losses[-1].stream
    eval_set = build_eval_set(cfg, cfg.ADAPT.SPLIT, "VAL", [(1, 1)], stream.items)
    return CleanLabels(eval_set, stream.sampler, cfg.TRAIN.KEEP_CLEAN)


def _build_metric_logger(cfg: CfgNode, labels: str, is_resumed: bool) -> MetricLogger:
    run_fields = {"labels": labels, "seed": cfg.RNG_SEED}
    return MetricLogger(build_writers(cfg, is_resumed), run_fields)


def _build_pictures(cfg: CfgNode) -> ValidationPictures:
    # Skeletons are no pictures.
    sample_split = "" if cfg.DATA.INPUT == "pose" else cfg.TRAIN.BEST_SPLIT
    return ValidationPictures(cfg.MODEL.CLASS_NAMES, sample_split, cfg.DATA.MEAN, cfg.DATA.STD)


def build_trainer_config(
    cfg: CfgNode, device: torch.device, run_metadata: dict[str, Any], gmacs: float
) -> TrainerConfig:
    """Build the settings of a trainer.

    Args:
        cfg: the configuration.
        device: device of the model.
        run_metadata: plain values saved in every checkpoint.
        gmacs: 10^9 multiply-adds of one clip in a forward pass.
    """
    return TrainerConfig(
        output_dir=Path(cfg.OUTPUT_DIR),
        device=device,
        seed=cfg.RNG_SEED,
        max_epoch=cfg.SOLVER.MAX_EPOCH,
        eval_period=cfg.TRAIN.EVAL_PERIOD,
        log_period=cfg.LOG_PERIOD,
        lr=build_schedule(cfg),
        best_split=cfg.TRAIN.BEST_SPLIT,
        num_classes=cfg.MODEL.NUM_CLASSES,
        precision=PRECISIONS[cfg.MODEL.PRECISION],
        clip_grad=cfg.SOLVER.CLIP_GRAD_L2NORM,
        joint_step=cfg.TRAIN.JOINT_STEP,
        non_finite=cfg.TRAIN.NON_FINITE,
        channels_last=cfg.MODEL.CHANNELS_LAST,
        max_bad_fraction=cfg.DATA.MAX_BAD_FRACTION,
        keep_last=cfg.TRAIN.KEEP_LAST,
        max_failed_saves=cfg.TRAIN.MAX_FAILED_SAVES,
        ema_decay=cfg.TRAIN.EMA_DECAY,
        early_stop=cfg.TRAIN.EARLY_STOP,
        gmacs=gmacs,
        run_metadata=run_metadata,
        user_names=KEYS,
    )
