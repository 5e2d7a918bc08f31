"""Measure ways of fine-tuning beside training the whole model: parameters, memory, steps a second.

`python -m benchmarks.finetuning` trains a small vision transformer of timm on random clips, and
prints a Markdown table of ratios. Seconds are the processor's: other programs do not count.
"""

from __future__ import annotations

import time

import torch
from torch import nn

from nightcrawler.cli.info import count_activation_bytes
from nightcrawler.config.node import get_cfg
from nightcrawler.engine.optim import build_optimizer
from nightcrawler.models.build import build_model

CLIP = (4, 3, 8, 64, 64)
STEPS = 5
ROUNDS = 3
BASE = (
    *("MODEL.NAME", "timm/test_vit", "DATA.NUM_FRAMES", "8"),
    *("DATA.TRAIN_CROP_SIZE", "64", "DATA.TEST_CROP_SIZE", "64"),
)
WAYS = {
    "the whole model": (),
    "`SOLVER.LAYER_DECAY 0.75`": ("SOLVER.LAYER_DECAY", "0.75"),
    "`MODEL.USE_CHECKPOINT True`": ("MODEL.USE_CHECKPOINT", "True"),
    "`MODEL.LORA_RANK 4`": ("MODEL.LORA_RANK", "4"),
    "`MODEL.PROBE attentive`": ("MODEL.PROBE", "attentive"),
    "`MODEL.PROBE linear`": ("MODEL.PROBE", "linear"),
}


class Way:
    """One way of fine-tuning, ready to take steps.

    Args:
        overrides: keys and values of the configuration.
    """

    def __init__(self, overrides: tuple[str, ...]) -> None:
        cfg = get_cfg()
        cfg.merge_from_list([*BASE, *overrides])
        torch.manual_seed(0)
        self.model = build_model(cfg)
        self.optimizer = build_optimizer(cfg, self.model)
        self.seconds: list[float] = []

    def step(self, clips: torch.Tensor, labels: torch.Tensor) -> None:
        """Take one step on clips `[B, 3, T, H, W]` with labels `[B]`."""
        self.optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(self.model(clips), labels).backward()
        self.optimizer.step()

    def measure(self, clips: torch.Tensor, labels: torch.Tensor) -> None:
        """Note the processor's seconds of a few steps."""
        began = time.process_time()
        for _ in range(STEPS):
            self.step(clips, labels)
        self.seconds.append(time.process_time() - began)

    def figures(self) -> dict[str, float]:
        """Return trained parameters, bytes of gradients and optimiser, of activations, seconds."""
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        # AdamW keeps two moments of each, and there is a gradient.
        return {
            "parameters": trained,
            "states": 3 * 4 * trained,
            "activations": count_activation_bytes(self.model, CLIP),
            "seconds": min(self.seconds),
        }


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    clips = torch.randn(CLIP, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([1, 4, 2, 7])
    ways = {name: Way(overrides) for name, overrides in WAYS.items()}
    for way in ways.values():
        way.step(clips, labels)
    # In turn, so that a change of the machine meets all alike.
    for _ in range(ROUNDS):
        for way in ways.values():
            way.measure(clips, labels)
    whole = ways["the whole model"].figures()
    print("| trained | parameters | gradients and moments | activations | steps per second |")
    print("|---|---|---|---|---|")
    for name, way in ways.items():
        found = way.figures()
        shares = [found[key] / whole[key] for key in ("parameters", "states", "activations")]
        cells = [f"{share:.3f}" for share in shares]
        print(f"| {name} | {' | '.join(cells)} | {whole['seconds'] / found['seconds']:.2f} |")


if __name__ == "__main__":
    main()
