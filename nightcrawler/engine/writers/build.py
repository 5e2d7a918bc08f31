"""Writers of a run from its configuration."""

from __future__ import annotations

from pathlib import Path

from fvcore.common.config import CfgNode

from nightcrawler.config.identity import MACHINE_KEYS, is_below
from nightcrawler.config.node import changed_from_defaults
from nightcrawler.engine.metric_logger import validation_curve
from nightcrawler.engine.writers.base import RunDescription, Writer
from nightcrawler.engine.writers.group import WriterGroup, warn_of_end
from nightcrawler.engine.writers.jsonl import METRICS, JsonlWriter, read_written
from nightcrawler.engine.writers.tensorboard import FOLDER as TENSORBOARD
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.registries import WRITERS


def build_writers(cfg: CfgNode, is_resumed: bool) -> WriterGroup:
    """Build the writers of `WRITERS` and that of metrics.jsonl, none on ranks other than 0.

    Args:
        cfg: the configuration.
        is_resumed: goes on with a run that was stopped. Its rows are not written again.

    Raises:
        UserError: if the extra of a writer is not installed.
    """
    # Other ranks have the same figures.
    if not distributed.is_main():
        return WriterGroup({}, set())
    folder = Path(cfg.OUTPUT_DIR)
    written = read_written(folder) if is_resumed else set()
    about = run_description_of(cfg, is_resumed, len(written))
    writers: dict[str, Writer] = {}
    for name in cfg.WRITERS:
        if name == TENSORBOARD and not cfg.TENSORBOARD.ENABLE:
            continue
        try:
            writers[name] = WRITERS.get(name)(about)
        except UserError:
            raise
        except Exception as error:
            warn_of_end(name, error)
    # Last: a row in this file has been written by all others.
    writers[METRICS] = JsonlWriter(folder)
    return WriterGroup(writers, written)


def run_description_of(cfg: CfgNode, is_resumed: bool, num_written: int) -> RunDescription:
    """Return the description of a run for its writers.

    Args:
        cfg: the configuration.
        is_resumed: goes on with a run that was stopped.
        num_written: records that it has written before.
    """
    folder = Path(cfg.OUTPUT_DIR)
    # Runs are compared by these, whether default or not.
    settings: dict[str, bool | int | float | str] = {
        "MODEL.NAME": cfg.MODEL.NAME,
        "RNG_SEED": cfg.RNG_SEED,
    }
    for key, value in changed_from_defaults(cfg).items():
        # Places of this machine are nobody else's business, and settle no number.
        if not is_below(key, MACHINE_KEYS):
            settings[key] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return RunDescription(
        folder=folder,
        name="/".join(folder.absolute().parts[-2:]),
        is_resumed=is_resumed,
        num_written=num_written,
        settings=settings,
        score=validation_curve(cfg.TRAIN.BEST_SPLIT, "raw", "top1"),
    )
