"""From configuration to trainer and evaluator, and how a run starts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from nightcrawler.adapt.build import build_adapter
from nightcrawler.config import node
from nightcrawler.data.build import (
    EvalSet,
    build_adapt_loader,
    build_eval_set,
    build_mixup,
    build_train_streams,
)
from nightcrawler.data.build_video import build_camera_meta
from nightcrawler.data.dataset import clips_on
from nightcrawler.data.splits import get_split
from nightcrawler.engine import checkpoint
from nightcrawler.engine.bad_videos import BadVideoLedger
from nightcrawler.engine.evaluator import Evaluator
from nightcrawler.engine.loading import iterate_batches
from nightcrawler.engine.losses import LOSSES, soft_cross_entropy
from nightcrawler.engine.metric_logger import MetricLogger
from nightcrawler.engine.optim import build_optimizer, build_schedule
from nightcrawler.engine.trainer import EMA, AdaptClips, Trainer
from nightcrawler.engine.trainer_config import StreamLoss, TrainerConfig
from nightcrawler.models.build import build_model
from nightcrawler.models.flops import count_gmacs
from nightcrawler.models.formats import read_weights
from nightcrawler.models.pretrained import LoadReport, load_pretrained
from nightcrawler.models.zoo import find_weights
from nightcrawler.pseudo.results_files import LABEL_FREE, ORACLE, read_metadata, split_use
from nightcrawler.utils import distributed
from nightcrawler.utils.env import library_versions, machine, seed_everything
from nightcrawler.utils.errors import ConfigError, UserError
from nightcrawler.utils.io import sha256_file
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# On shorter clips, kernels outgrow what pooling in time leaves, and oneDNN's bf16 weight gradients are then garbage.
SAFE_BF16_FRAMES = 16
# Keys that may differ between a run and its continuation: where and how fast it runs, not what is computed.
MACHINE_KEYS = (
    "OUTPUT_DIR",
    "DEVICE",
    "NUM_GPUS",
    "NUM_SHARDS",
    "DIST_BACKEND",
    "DIST_TIMEOUT_SEC",
    "NUM_THREADS",
    "AUG.DEVICE",
    "LOG_PERIOD",
    "TENSORBOARD",
    "DATA_LOADER",
    "DATA.PATH_PREFIX",
    "TRAIN.KEEP_LAST",
    "TRAIN.MAX_FAILED_SAVES",
    "TEST",
)

# What a run's checkpoint holds beside its weights, and weights alone do not.
PROGRESS = ("optimizer_state", "scaler_state", "epoch", "step", "num_skipped", "best", "meter")


def build_device(cfg: CfgNode) -> torch.device:
    """Choose the device, set threads, join the process group, seed everything.

    Raises:
        ConfigError: if `NUM_GPUS` x `NUM_SHARDS` is not what was launched.
    """
    device = distributed.choose_device(cfg.DEVICE)
    if cfg.NUM_THREADS:
        torch.set_num_threads(cfg.NUM_THREADS)
    distributed.init_process_group(device, cfg.DIST_BACKEND, cfg.DIST_TIMEOUT_SEC)
    launched = distributed.launched_world()
    if cfg.NUM_GPUS and cfg.NUM_GPUS * max(cfg.NUM_SHARDS, 1) != launched:
        raise ConfigError(
            f"NUM_GPUS {cfg.NUM_GPUS} x NUM_SHARDS {max(cfg.NUM_SHARDS, 1)} does not match the {launched} processes "
            "that were launched: start through run.sh (NPROC=<processes per machine>), or leave both at 0"
        )
    if cfg.MODEL.PRECISION == "fp16" and device.type == "cpu":
        raise ConfigError("MODEL.PRECISION fp16 needs CUDA: use bf16 or fp32 on a CPU")
    seed_everything(cfg.RNG_SEED)
    return device


def build_label_use(cfg: CfgNode) -> str:
    """`oracle` where labels of dark clips train, pick the checkpoint, or made pseudo-labels or the first weights."""
    pseudo = Path(cfg.DATA.PATH_PREFIX) / cfg.DATA.PSEUDO_CSV
    if cfg.DATA.PSEUDO_CSV and pseudo.is_file() and read_metadata(pseudo)["labels"] == ORACLE:
        return ORACLE
    start = Path(cfg.TRAIN.CHECKPOINT_FILE_PATH)
    if start.is_file() and read_weights(start).labels == ORACLE:
        return ORACLE
    return split_use((cfg.DATA.TRAIN_SPLIT, cfg.TRAIN.BEST_SPLIT), cfg.DATA.PATH_PREFIX)


def build_placed_model(cfg: CfgNode, device: torch.device) -> nn.Module:
    """The model on its device, in its memory format."""
    model = build_model(cfg).to(device)
    return model.to(memory_format=torch.channels_last_3d) if cfg.MODEL.CHANNELS_LAST else model


def build_evaluator(cfg: CfgNode, device: torch.device) -> Evaluator:
    """The evaluator of `TEST`."""
    return Evaluator(
        batch_clips=cfg.TEST.BATCH_SIZE,
        device=device,
        precision=PRECISIONS[cfg.MODEL.PRECISION],
        method=cfg.TEST.ENSEMBLE_METHOD,
        channels_last=cfg.MODEL.CHANNELS_LAST,
    )


def build_objectives(cfg: CfgNode) -> list[StreamLoss]:
    """Streams with their losses: cross entropy for labels, `MODEL.PSEUDO_LOSS` for pseudo-labels."""
    labelled, *pseudo = build_train_streams(cfg)
    objectives = [StreamLoss(labelled, build_mixup(cfg), soft_cross_entropy)]
    for stream in pseudo:
        kind = cfg.MODEL.PSEUDO_LOSS
        soft = kind != "hard"
        if soft and stream.items[0].probs is None:
            raise UserError(
                f"MODEL.PSEUDO_LOSS {kind} needs probabilities, and {cfg.DATA.PSEUDO_CSV} has none"
            )
        loss = soft_cross_entropy if kind in ("hard", "soft") else _build_distillation(cfg, kind)
        weight, ramp = cfg.TRAIN.PSEUDO_WEIGHT, cfg.TRAIN.PSEUDO_RAMP_EPOCHS
        objectives.append(
            StreamLoss(stream, build_mixup(cfg), loss, soft=soft, weight=weight, ramp_epochs=ramp)
        )
    return objectives


def _build_distillation(cfg: CfgNode, kind: str) -> Callable[[Tensor, Tensor], Tensor]:
    return functools.partial(LOSSES.get(kind), temperature=cfg.MODEL.PSEUDO_TEMPERATURE)


def build_adapt_clips(cfg: CfgNode, device: torch.device) -> AdaptClips:
    """Epoch and ledger to this rank's unlabelled clips `[B, 3, T, h, w]` on the device."""
    sampler, loader, items = build_adapt_loader(cfg)
    layout = torch.channels_last_3d if cfg.MODEL.CHANNELS_LAST else torch.contiguous_format

    def clips(epoch: int, bad: BadVideoLedger) -> Iterator[Tensor]:
        sampler.set_position(epoch)
        for batch in iterate_batches(loader, items, "adaptation"):
            bad.add("adapt", len(items), batch["bad"])
            if batch["clip"] is not None:
                yield clips_on(batch["clip"], device).contiguous(memory_format=layout)

    return clips


def _no_clips(epoch: int, bad: BadVideoLedger) -> Iterator[Tensor]:
    return iter(())


def build_stamp(cfg: CfgNode) -> dict[str, Any]:
    """What every checkpoint and results file of a run says about it, as plain values."""
    return {
        "cfg": node.dump(cfg),
        "config_hash": node.config_hash(cfg, ignore=MACHINE_KEYS),
        "class_names": list(cfg.MODEL.CLASS_NAMES),
        "labels": build_label_use(cfg),
        "adapter": cfg.ADAPT.NAME,
        "seed": cfg.RNG_SEED,
        "versions": library_versions(),
    }


def build_list_hashes(cfg: CfgNode) -> dict[str, str]:
    """SHA-256 of the list files that decide what is trained on, and which checkpoint is the best."""
    prefix = Path(cfg.DATA.PATH_PREFIX)
    splits = (cfg.DATA.TRAIN_SPLIT, cfg.ADAPT.SPLIT, cfg.TRAIN.BEST_SPLIT)
    files = {f"split {name}": get_split(name, prefix).list_file for name in splits}
    if cfg.DATA.PSEUDO_CSV:
        files[cfg.DATA.PSEUDO_CSV] = prefix / cfg.DATA.PSEUDO_CSV
    return {name: sha256_file(path) for name, path in files.items() if Path(path).is_file()}


def build_trainer(cfg: CfgNode) -> Trainer:
    """A trainer ready to go on, on every rank from the same place.

    From the first of these that there is, said in a log line that begins with `start:`. The newest checkpoint in
    `OUTPUT_DIR` that can be read (`TRAIN.AUTO_RESUME`), which must be of the same configuration and lists; the weights
    of `TRAIN.CHECKPOINT_FILE_PATH`; random weights.

    Raises:
        UserError: if checkpoints are of another configuration, none of them can be read, or ranks find different ones.
    """
    device = build_device(cfg)
    if (
        cfg.MODEL.PRECISION == "bf16"
        and device.type == "cpu"
        and cfg.DATA.NUM_FRAMES < SAFE_BF16_FRAMES
    ):
        logger.warning(
            "bf16 on a CPU: gradients of 3-D convolutions are wrong on so short clips (oneDNN); take fp32"
        )
    output_dir = Path(cfg.OUTPUT_DIR)
    model = build_placed_model(cfg, device)
    resumed = checkpoint.find_resume(output_dir) if cfg.TRAIN.AUTO_RESUME else None
    if resumed is None:
        start = build_start(cfg, model)
    stamp = {**build_stamp(cfg), "lists": build_list_hashes(cfg)}
    gmacs = count_gmacs(
        model, (1, 3, cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE, cfg.DATA.TRAIN_CROP_SIZE)
    )
    has_adapter = cfg.ADAPT.NAME != "none"
    if cfg.MODEL.COMPILE:
        model.compile()  # in place: names in checkpoints stay as they are
    trainer = Trainer(
        model=model,
        optimizer=build_optimizer(cfg, model),
        objectives=build_objectives(cfg),
        adapter=build_adapter(cfg),
        adapt_clips=build_adapt_clips(cfg, device) if has_adapter else _no_clips,
        eval_sets=_build_eval_sets(cfg),
        evaluator=build_evaluator(cfg, device),
        journal=MetricLogger(
            output_dir, cfg.TENSORBOARD.ENABLE, {"labels": stamp["labels"], "seed": cfg.RNG_SEED}
        ),
        settings=build_settings(cfg, device, stamp, gmacs),
    )
    if resumed is not None:
        _resume(trainer, *resumed)
    elif start is not None:
        trainer.load_state(start)
    _agree(trainer)
    return trainer


def _agree(trainer: Trainer) -> None:
    """Machines that do not share a folder would go on from different places, and nobody would see it."""
    places = distributed.gather_objects(f"epoch {trainer.epoch + 1} step {trainer.step}")
    for rank, place in enumerate(places):
        if place != places[0]:
            raise UserError(
                f"OUTPUT_DIR {trainer.settings.output_dir}: rank {rank} would go on from {place}, rank 0 from "
                f"{places[0]}: all machines must see the same folder"
            )


def _build_eval_sets(cfg: CfgNode) -> list[EvalSet]:
    """The validated splits; the one that picks the checkpoint must have labels."""
    sets = []
    for split in dict.fromkeys([*cfg.TRAIN.VAL_SPLITS, cfg.TRAIN.BEST_SPLIT]):
        sets.append(build_eval_set(cfg, split, "VAL", [(1, 1)]))
        if split == cfg.TRAIN.BEST_SPLIT and all(item.label < 0 for item in sets[-1].items):
            raise UserError(
                f"TRAIN.BEST_SPLIT '{split}': no video has a label, so it cannot pick {checkpoint.BEST}"
            )
    return sets


def build_settings(
    cfg: CfgNode, device: torch.device, stamp: dict[str, Any], gmacs: float
) -> TrainerConfig:
    """The trainer's plain values."""
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
        gmacs=gmacs,
        stamp=stamp,
    )


def _resume(trainer: Trainer, path: Path, state: dict[str, Any]) -> None:
    if state.get("config_hash") != trainer.settings.stamp["config_hash"]:
        raise UserError(
            f"{path} is from another configuration ({state.get('config_hash')}, now "
            f"{trainer.settings.stamp['config_hash']}): remove the folder's checkpoints to start anew, "
            "set TRAIN.AUTO_RESUME False, or give another OUTPUT_DIR"
        )
    lists, before = trainer.settings.stamp["lists"], state.get("lists", {})
    changed = [name for name in lists if name in before and before[name] != lists[name]]
    if changed:
        raise UserError(
            f"{path}: the list of {changed[0]} is not what this run began with: put it back, or remove the folder's "
            "checkpoints to start anew"
        )
    was, now = (about.get("labels", LABEL_FREE) for about in (state, trainer.settings.stamp))
    if was != now:
        raise UserError(
            f"{path}: this run began {was} and would go on {now}: put the weights or pseudo-labels that it began with "
            "back, or remove the folder's checkpoints to start anew"
        )
    trainer.load_state(state)
    logger.info("start: resumed from %s, epoch %d step %d", path, trainer.epoch + 1, trainer.step)


def build_start(cfg: CfgNode, model: nn.Module) -> dict[str, Any] | None:
    """Fill `model` from `TRAIN.CHECKPOINT_FILE_PATH` and say what was loaded.

    Returns:
        The whole state of a run to go on from, where `TRAIN.CHECKPOINT_EPOCH_RESET` is False; else `None`.
    """
    path = cfg.TRAIN.CHECKPOINT_FILE_PATH
    if not path:
        logger.info(
            "start: random weights (no checkpoint to resume, no TRAIN.CHECKPOINT_FILE_PATH)"
        )
        return None
    file = find_weights(path)
    if not cfg.TRAIN.CHECKPOINT_EPOCH_RESET:
        logger.info("start: going on with epoch and optimiser of %s", file)
        state = checkpoint.load_checkpoint(file)
        lacking = [key for key in PROGRESS if key not in state]
        if lacking:
            raise UserError(
                f"{file}: has no {lacking[0]}, only weights: leave TRAIN.CHECKPOINT_EPOCH_RESET True"
            )
        if state.get("weights") == EMA:
            raise UserError(
                f"{file}: holds averaged weights, which training does not go on from: take the run's latest"
            )
        return state
    checkpoint.verify(file)
    report = load_pretrained(
        model, path, min_match=cfg.MODEL.MIN_MATCH, class_names=list(cfg.MODEL.CLASS_NAMES)
    )
    logger.info("start: weights of %s\n%s", path, report)
    return None


def build_about(cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
    """What `run.json` says of a run: seed, versions, machine, size of the model, use of dark labels."""
    stamp = build_stamp(cfg)
    return {
        **{
            key: stamp[key]
            for key in ("config_hash", "seed", "labels", "adapter", "class_names", "versions")
        },
        **build_camera_meta(cfg, [*cfg.TRAIN.VAL_SPLITS, cfg.TRAIN.BEST_SPLIT]),
        "world_size": distributed.world_size(),
        "num_params": sum(parameter.numel() for parameter in model.parameters()),
        "machine": machine(),
    }


def build_tested_weights(cfg: CfgNode, model: nn.Module) -> LoadReport:
    """Fill `model` for testing, every entry of it; returns what was loaded.

    Raises:
        UserError: if the checkpoint is missing, damaged, or leaves a part of the model unfilled.
    """
    path = cfg.TEST.CHECKPOINT_FILE_PATH or str(Path(cfg.OUTPUT_DIR) / checkpoint.BEST)
    if not Path(path).is_file():
        raise UserError(
            f"{path}: no checkpoint to test; run run.sh first, or set TEST.CHECKPOINT_FILE_PATH"
        )
    checkpoint.verify(path)
    report = load_pretrained(
        model, path, min_match=1.0, class_names=list(cfg.MODEL.CLASS_NAMES), complete=True
    )
    use = f"checkpoint choice {report.labels or ORACLE}"
    logger.info("testing %s: %s", path, "; ".join([report.summary(), *report.notes, use]))
    return report
