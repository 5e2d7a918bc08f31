"""Start of a run: from its own checkpoint, another run's weights, or random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode
from torch import nn

from nightcrawler.config.identity import differences_of_texts, is_of_same_run
from nightcrawler.engine import checkpoint_files
from nightcrawler.engine.trainer import EMA, Trainer
from nightcrawler.engine.unseen_settings import (
    check_architecture_from_cfg,
    check_scale_from_cfg,
)
from nightcrawler.models.pretrained import LoadReport, load_pretrained
from nightcrawler.models.zoo import find_entry, obtain_weights
from nightcrawler.pseudo.results_metadata import LABEL_FREE, ORACLE
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError, argument_keys
from nightcrawler.utils.logging import get_logger
from nightcrawler.utils.versions import compare_versions

logger = get_logger(__name__)

# Entries of a run's checkpoint besides the weights; a file of weights alone lacks them.
PROGRESS = ("optimizer_state", "scaler_state", "epoch", "step", "num_skipped", "best", "meter")
ADAPTER_KEY = {"lora_rank": "MODEL.LORA_RANK"}


def resume(trainer: Trainer, path: Path, state: dict[str, Any]) -> None:
    """Load a run's checkpoint into its trainer.

    Args:
        trainer: trainer of the run.
        path: file of the state, for messages.
        state: content of the checkpoint.

    Raises:
        UserError: if the checkpoint is of another configuration, other lists, or another label use.
    """
    run_metadata = trainer.config.run_metadata
    check_same_run(path, state, run_metadata)
    # The weights that the run began with: the file may have gone, or changed, since.
    run_metadata["start_sha256"] = state.get("start_sha256", "")
    for note in notes_on_record(state):
        logger.warning("%s: %s", path, note)
    trainer.load_state(state)
    logger.info("start: resumed from %s, epoch %d step %d", path, trainer.epoch + 1, trainer.step)


def check_same_run(path: Path, state: dict[str, Any], run_metadata: dict[str, Any]) -> None:
    """Refuse a checkpoint whose run would give other numbers than the current one.

    Args:
        path: file of the state, for messages.
        state: content of the checkpoint.
        run_metadata: metadata of the current run, with the hashes of its `lists`.

    Raises:
        UserError: if configuration, lists or label use differ.
    """
    now = run_metadata["config_hash"]
    recorded = str(state.get("cfg", ""))
    # The recorded configuration decides where the hash of an earlier version held more keys.
    if state.get("config_hash") != now and not is_of_same_run(recorded, path, now):
        found = state.get("config_hash")
        differences = differences_of_texts(recorded, str(run_metadata.get("cfg", "")), path)
        raise UserError(
            f"{path} is from another configuration ({differences or f'{found}, now {now}'}): "
            "remove the folder's checkpoints to start over, set TRAIN.AUTO_RESUME False, or give "
            "another OUTPUT_DIR, there with TRAIN.CHECKPOINT_FILE_PATH to begin with its weights"
        )
    for kind, things in (("lists", "list"), ("videos", "content of the videos")):
        before = state.get(kind, {})
        for name, found in run_metadata.get(kind, {}).items():
            if before.get(name, found) != found:
                raise UserError(
                    f"{path}: the {things} of {name} is not the one that this run began with: put "
                    "it back, or remove the folder's checkpoints to start over"
                )
    # Checkpoints without a record are of runs before label use was recorded.
    use_before = state.get("labels", LABEL_FREE)
    use_now = run_metadata.get("labels", LABEL_FREE)
    if use_before != use_now:
        raise UserError(
            f"{path}: this run began {use_before} and would continue {use_now}: put the weights or "
            "pseudo-labels that it began with back, or remove the folder's checkpoints to start "
            "over"
        )


def notes_on_record(state: Mapping[str, Any]) -> list[str]:
    """Return notes on a checkpoint that is continued from, a line each.

    Args:
        state: content of the checkpoint.
    """
    notes = []
    if "videos" not in state:
        notes.append(
            "of version 0.1, which recorded no fingerprint of the videos: whether they are "
            "those of before cannot be compared"
        )
    differences = compare_versions(state.get("versions", {}))
    if differences:
        notes.append(f"made with {differences}: a run without the stop may give other numbers")
    return notes


def check_ranks_agree(trainer: Trainer) -> None:
    """Refuse to start if ranks would continue from different positions.

    Machines without a shared folder would otherwise train on, silently, from different weights.

    Args:
        trainer: trainer of this rank, ready to start.

    Raises:
        UserError: if a rank's position differs from rank 0's, on every rank.
    """
    # A collective, so that every rank raises and none waits for the others.
    positions = distributed.gather_objects(f"epoch {trainer.epoch + 1} step {trainer.step}")
    for rank, position in enumerate(positions):
        if position != positions[0]:
            raise UserError(
                f"{trainer.config.user_name('output_dir')} {trainer.config.output_dir}: rank "
                f"{rank} would continue from {position}, rank 0 from {positions[0]}: all machines "
                "must see the same folder"
            )


def start_from_cfg(cfg: CfgNode, model: nn.Module) -> dict[str, Any] | None:
    """Fill a model from `TRAIN.CHECKPOINT_FILE_PATH` and log the report.

    Args:
        cfg: the configuration.
        model: filled in place.

    Returns:
        The whole state to continue with if `TRAIN.CHECKPOINT_EPOCH_RESET` is False (the model is
        then left as it is), else `None`.

    Raises:
        UserError: if the file is missing or damaged, has no state to continue with, or has low-rank
            adapters of another scale.
    """
    path = cfg.TRAIN.CHECKPOINT_FILE_PATH
    # A run's own checkpoint came first, in `build_trainer`: it is not looked for here.
    if not path:
        # Models of folders bring their weights with them.
        sources = [m.weights_source for m in model.modules() if hasattr(m, "weights_source")]
        source = sources[0] if sources else None
        if source == "":
            raise UserError(
                f"MODEL.NAME {cfg.MODEL.NAME}: the folder has no weights (model.safetensors), and "
                "TRAIN.CHECKPOINT_FILE_PATH is empty: set one of them"
            )
        if source:
            logger.info("start: weights of the folder %s", source)
        else:
            logger.info(
                "start: random weights (no checkpoint to resume, no TRAIN.CHECKPOINT_FILE_PATH)"
            )
        return None
    try:
        file = obtain_weights(path)
    except UserError as error:
        advice = "'' starts from random weights"
        raise UserError(f"{error} (TRAIN.CHECKPOINT_FILE_PATH; {advice})") from None
    if not cfg.TRAIN.CHECKPOINT_EPOCH_RESET:
        logger.info("start: continuing with epoch and optimiser of %s", file)
        state = _load_progress(file, cfg.SOLVER.MAX_EPOCH)
        check_scale_from_cfg(cfg, state.get("model_state", ()), str(state.get("cfg", "")), file)
        return state
    # Weights of other projects have no sidecar; ours are checked against it.
    checkpoint_files.verify(file)
    with argument_keys({"min_match": "MODEL.MIN_MATCH", **ADAPTER_KEY}):
        report = load_pretrained(
            model, path, min_match=cfg.MODEL.MIN_MATCH, class_names=list(cfg.MODEL.CLASS_NAMES)
        )
    check_scale_from_cfg(cfg, report.filled, report.config_text, report.path)
    logger.info("start: weights of %s\n%s", path, report)
    return None


def _load_progress(file: Path, max_epoch: int) -> dict[str, Any]:
    """Read a checkpoint with the whole state of a run, for `TRAIN.CHECKPOINT_EPOCH_RESET` False.

    Raises:
        UserError: if it holds weights alone or averaged ones, or no epoch is left to train.
    """
    state = checkpoint_files.load_checkpoint(file)
    lacking = [key for key in PROGRESS if key not in state]
    if lacking:
        raise UserError(
            f"{file}: has no {lacking[0]}, only weights: leave TRAIN.CHECKPOINT_EPOCH_RESET True"
        )
    if state.get("weights") == EMA:
        raise UserError(
            f"{file}: holds averaged weights, which training cannot continue from: take the run's "
            "latest checkpoint"
        )
    if state["epoch"] >= max_epoch:
        raise UserError(
            f"{file}: has trained {state['epoch']} epochs, and SOLVER.MAX_EPOCH is {max_epoch}: "
            "nothing is left to train; raise SOLVER.MAX_EPOCH"
        )
    return state


def weights_to_test_from_cfg(cfg: CfgNode, model: nn.Module) -> LoadReport:
    """Fill every entry of a model for testing.

    Args:
        cfg: the configuration.
        model: filled in place from `TEST.CHECKPOINT_FILE_PATH`, by default the run's best
            checkpoint.

    Returns:
        The report of the loaded weights.

    Raises:
        UserError: if the checkpoint is missing, damaged, leaves a part of the model unfilled, or
            was trained as another architecture, or with adapters of another scale.
    """
    path = cfg.TEST.CHECKPOINT_FILE_PATH or str(Path(cfg.OUTPUT_DIR) / checkpoint_files.BEST)
    if find_entry(path) is not None:
        path = str(obtain_weights(path))
    if not Path(path).is_file():
        raise UserError(
            f"{path}: no checkpoint to test; run run.sh first, or set TEST.CHECKPOINT_FILE_PATH"
        )
    checkpoint_files.verify(path)
    with argument_keys(ADAPTER_KEY):
        report = load_pretrained(
            model, path, min_match=1.0, class_names=list(cfg.MODEL.CLASS_NAMES), complete=True
        )
    check_scale_from_cfg(cfg, report.filled, report.config_text, report.path)
    check_architecture_from_cfg(cfg, report.config_text, report.path)
    use = f"checkpoint choice {report.labels or ORACLE}"
    logger.info("testing %s: %s", path, "; ".join([report.summary(), *report.notes, use]))
    return report
