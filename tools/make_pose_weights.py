"""Train the small model of skeletons that predictions use, on motions of synthetic figures only.

No video takes part, dark or bright, and no motion of a real person: the figures are joints that
move by rules. Other figures, of another seed, choose the checkpoint. Two minutes on two idle CPU
cores.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightcrawler.data.splits import get_split
from nightcrawler.utils.command_line import make_parser, run
from nightcrawler.utils.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = """\
  python tools/make_pose_weights.py --work demo/pose --out configs/demo_weights
  python tools/make_pose_weights.py --work demo/tried --out demo/tried SOLVER.MAX_EPOCH 1"""
NAME = "poseconv"
# Figures that are learned from, and figures that choose the checkpoint: numbers and seeds.
LEARNED = (22000, 1000)
CHOSEN_WITH = (2200, 2000)
SETTINGS = {
    "DATA.TRAIN_SPLIT": "figures",
    "ADAPT.NAME": "none",
    "SOLVER.MAX_EPOCH": "5",
    "TRAIN.EVAL_PERIOD": "5",
}


def parse(argv: Sequence[str]) -> Any:
    """Parse the command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "--work", type=Path, required=True, metavar="DIR", help="folder of motions and of the run"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the weights"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY VALUE", help="configuration of the training"
    )
    return parser.parse_intermixed_args(argv)


def call(*command: str | Path) -> None:
    """Run a sub-command of the project.

    Raises:
        UserError: if it fails. Its own message tells the reason.
    """
    words = [sys.executable, "-m", "nightcrawler", *map(str, command)]
    if subprocess.run(words, cwd=ROOT, check=False).returncode:
        raise UserError(f"nightcrawler {command[0]} failed, see above")


def make_motions(data: Path) -> None:
    """Write the motions of both splits where an experiment looks for them."""
    learned = get_split("figures", data)
    chosen_with = get_split("val_dry", data)
    for split, (count, seed) in ((learned, LEARNED), (chosen_with, CHOSEN_WITH)):
        folder = split.folders[0]
        if not (folder / "motions.csv").is_file():
            call("prepare", "figures", "--out", folder, "--count", str(count), "--seed", str(seed))
        if split.list_file != folder / "motions.csv":
            shutil.copyfile(folder / "motions.csv", split.list_file)


def main(argv: Sequence[str]) -> int:
    """Write the motions, train the model, write its weights."""
    arguments = parse(argv)
    data = arguments.work.resolve() / "data"
    run_folder = arguments.work.resolve() / "run"
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    make_motions(data)
    settings = {"DATA.PATH_PREFIX": data, "OUTPUT_DIR": run_folder, **SETTINGS}
    pairs = [str(text) for pair in settings.items() for text in pair]
    call("train", "--cfg", "exp_pose/skeleton/config.yaml", *pairs, *arguments.overrides)
    weights = out / f"{NAME}.safetensors"
    call("convert", run_folder / "best.pyth", "--half", "--to", weights)
    print(f"{weights}: {weights.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
