"""Train the small weights that the demo starts from, on synthetic clips in normal light only.

As the real method starts from Kinetics, the demo starts from models that know the actions in light.
No dark clip and no clip of the demo's own data takes part: the data's seeds differ. About ten
minutes per model on a CPU core of its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightcrawler.utils.command_line import make_parser, run
from nightcrawler.utils.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = """\
  python tools/make_demo_weights.py --work demo/weights --out configs/demo_weights
  python tools/make_demo_weights.py --work demo/weights --out demo/tried \\
      --only sf32_k700 SOLVER.MAX_EPOCH 1"""
# Clips of each class; the data's seeds are far from those of the demo (0, 1, 2, ...).
CLIPS = ("--train", "120", "--val", "20", "--unlabel", "1", "--arid", "1", "--test", "1")


@dataclass(frozen=True)
class Source:
    """Settings of the pre-training of one model.

    Attributes:
        data_seed: seed of the rendered clips.
        seed: seed of the weights and of the order of clips.
        rate: learning rate.
        epochs: number of epochs of 1,320 clips.
    """

    data_seed: int
    seed: int
    rate: float
    epochs: int


SOURCES = {
    "uniformer_b32_k600": Source(1000, 6666, 2.0e-3, 50),
    "uniformer_b32_ssv2": Source(2000, 7, 2.0e-3, 50),
    "mvit_b32_k600": Source(1000, 6666, 1.0e-3, 50),
    "sf32_k700": Source(1000, 6666, 4.0e-3, 40),
}


def parse(argv: Sequence[str]) -> Any:
    """Parse the command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of data and runs, in the project",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the weights"
    )
    parser.add_argument(
        "--only", action="append", choices=tuple(SOURCES), help="only this model (repeatable)"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="models at a time (default 2)"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY VALUE", help="configuration of every training"
    )
    return parser.parse_intermixed_args(argv)


def call(*command: str | Path) -> None:
    """Run a tool of the project.

    Args:
        *command: path of the tool and its arguments.

    Raises:
        UserError: if it fails. Its own message tells the reason.
    """
    if subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, check=False).returncode:
        raise UserError(f"{command[0]} failed, see above")


def make(model: str, work: Path, out: Path, overrides: Sequence[str]) -> Path:
    """Pre-train one model, or resume its training, and write its weights.

    Args:
        model: key of `SOURCES`.
        work: folder of data and runs, relative to the project.
        out: folder of the weights.
        overrides: `KEY VALUE` pairs.

    Returns:
        The file of the weights.
    """
    source = SOURCES[model]
    run_folder = work / model
    keys = {
        "DATA.PATH_PREFIX": work / f"data{source.data_seed}",
        "OUTPUT_DIR": run_folder,
        "RNG_SEED": source.seed,
        "ADAPT.NAME": "none",
        "TRAIN.CHECKPOINT_FILE_PATH": "",
        "TRAIN.VAL_SPLITS": "[val_dry]",
        "TRAIN.BEST_SPLIT": "val_dry",
        "TRAIN.EVAL_PERIOD": 10,
        "SOLVER.BASE_LR": source.rate,
        "SOLVER.WARMUP_EPOCHS": 3.0,
        "SOLVER.MAX_EPOCH": source.epochs,
    }
    settings = [str(text) for pair in keys.items() for text in pair]
    config = f"exp_adapt_bn/{model}/config.yaml"
    call(
        "tools/run_net.py",
        "train",
        "--cfg",
        config,
        "--overlay",
        "configs/demo.yaml",
        *settings,
        *overrides,
    )
    weights = out / f"{model}.safetensors"
    call("tools/convert_checkpoint.py", run_folder / "best.pyth", "--half", "--to", weights)
    return weights


def main(argv: Sequence[str]) -> int:
    """Render the clips, train the models, write their weights."""
    arguments = parse(argv)
    if not arguments.work.resolve().is_relative_to(ROOT):
        raise UserError(
            f"--work {arguments.work}: expected a folder in the project: its path is written into "
            "the weights, which must not name a folder of this machine"
        )
    work = arguments.work.resolve().relative_to(ROOT)
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    chosen = arguments.only or list(SOURCES)
    for seed in sorted({SOURCES[model].data_seed for model in chosen}):
        call("tools/make_synthetic.py", "--out", work / f"data{seed}", "--seed", str(seed), *CLIPS)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for weights in pool.map(lambda model: make(model, work, out, arguments.overrides), chosen):
            print(f"{weights}: {weights.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
