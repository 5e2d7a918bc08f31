"""Checkpoints of small untrained models of each family, as training would write them."""

from __future__ import annotations

from pathlib import Path

import torch

from nightcrawler.config.load import load_experiment
from nightcrawler.engine.checkpoint_files import save_checkpoint
from nightcrawler.engine.run_metadata import run_metadata_of
from nightcrawler.models.build import build_model
from tests.paths import ROOT

FAMILIES = ("uniformer_b32_k600", "mvit_b32_k600", "sf32_k700")
SMALL = ("DATA.NUM_FRAMES", "4", "DATA.TRAIN_CROP_SIZE", "32", "DATA.TEST_CROP_SIZE", "32")


def write_checkpoint(folder: Path, model_name: str = FAMILIES[0], *overrides: str) -> Path:
    """`best.pyth` of a random model of the demo's size in `folder`, its BatchNorm away from the identity."""
    experiment = ROOT / "exp_adapt_bn" / model_name / "config.yaml"
    cfg = load_experiment(
        experiment, [ROOT / "configs/demo.yaml"], [*SMALL, "OUTPUT_DIR", str(folder), *overrides]
    )
    torch.manual_seed(3)
    model = build_model(cfg)
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(std=0.3)
        elif name.endswith(("running_var", "norm.weight")):
            value.uniform_(0.5, 2.0)
        elif name.startswith(("head", "projection")):
            value.normal_(std=0.5)  # so that classes differ by more than rounding
    metadata = {**run_metadata_of(cfg), "lists": {}}
    save_checkpoint(folder / "best.pyth", {"model_state": model.state_dict(), **metadata})
    return folder / "best.pyth"
