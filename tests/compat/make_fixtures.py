"""Make the files in `v0_1/` with the code of version 0.1 (commit 0f23ef9).

They are made once and never again: they stand for the files that users of 0.1 have. In a checkout
of that commit, with its environment active::

    PYTHONPATH=CHECKOUT python tests/compat/make_fixtures.py WORK

and copy `WORK/fixtures` to `tests/compat/v0_1`. The run is stopped in the middle
of its second epoch, where its checkpoint is kept, and then continued by the same old code;
`expected.json` has its end.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

LATEST = "checkpoints/checkpoint_latest.pyth"
STOP_AFTER = 3
SMALL = (
    *("UNIFORMER.EMBED_DIM", "[4,4,8,8]", "UNIFORMER.HEAD_DIM", 4),
    *("TRAIN.KEEP_LAST", 1, "TRAIN.EVAL_PERIOD", 2),
)
PSEUDO_THRESHOLD = 0.09


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def weights_hash(state: dict[str, Any]) -> str:
    """SHA-256 over names, shapes and bytes of the weights, in order."""
    digest = hashlib.sha256()
    for name, value in state["model_state"].items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def machine() -> dict[str, str]:
    """Everything that bits of floating-point results depend on besides the code."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    capability = torch.backends.cpu.get_cpu_capability()
    return {"torch": torch.__version__, "cpu": cpu, "capability": capability}


def video_hashes(data: Path) -> str:
    """SHA-256 over all videos of the tiny data folder: they are encoded anew for each test."""
    digest = hashlib.sha256()
    for path in sorted(data.rglob("*")):
        if path.suffix in (".mp4", ".avi"):
            digest.update(path.relative_to(data).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def stop_after(trainer: Any, step: int) -> None:
    advance = trainer.stepper.advance
    count = iter(range(1, 1000))

    def counted(lr: float) -> float:
        norm = advance(lr)
        trainer.stop.requested = next(count) == step
        return float(norm)

    trainer.stepper.advance = counted


def train() -> dict[str, Any]:
    """Stop a run, keep its folder, continue it, and return its end."""
    from nightcrawler.config.node import dump
    from nightcrawler.engine.build import build_about, build_trainer
    from nightcrawler.engine.checkpoint import load_checkpoint
    from nightcrawler.engine.journal import write_run_folder
    from nightcrawler.engine.trainer import Preempted
    from tests import tiny

    data, run = Path("data"), Path("run")
    tiny.build_data(data)
    cfg = tiny.config(data, run, *SMALL)
    trainer = build_trainer(cfg)
    write_run_folder(run, dump(cfg), build_about(cfg, trainer.model))
    stop_after(trainer, STOP_AFTER)
    with contextlib.suppress(Preempted):
        trainer.fit()
    kept = Path("fixtures/run")
    shutil.copytree(run, kept, ignore=shutil.ignore_patterns(".lock"))
    stopped = load_checkpoint(run / LATEST)
    trainer = build_trainer(cfg)
    best = trainer.fit()
    ended = load_checkpoint(run / LATEST)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "videos": video_hashes(data),
        "stopped": {"epoch": stopped["epoch"], "step": stopped["step"]},
        "stopped_weights": weights_hash(stopped),
        "ended_weights": weights_hash(ended),
        "ended_head_bias": ended["model_state"]["head.bias"].tolist(),
        "ended_meter": ended["meter"],
        "best": best,
        "num_rows": len(rows),
        "losses": [row["loss"] for row in rows if row["kind"] == "train"],
    }


def evaluate() -> dict[str, Any]:
    """Test the kept checkpoint on two splits and make pseudo-labels of one."""
    from nightcrawler.engine.tester import build_tester
    from nightcrawler.pseudo.predictions import load_predictions
    from tests import tiny
    from tests.paths import ROOT

    weights = ("TEST.CHECKPOINT_FILE_PATH", f"fixtures/run/{LATEST}")
    for split in ("arid", "total_unlabel"):
        out = Path("results")
        cfg = tiny.config(Path("data"), out, *SMALL, *weights, "TEST.DATA_SELECT", split)
        build_tester(cfg).run()
    results = Path("fixtures/results")
    results.mkdir()
    shutil.copy("results/aridx4x32x1x1.pkl", results)
    pseudo = Path("fixtures/pseudo")
    pseudo.mkdir()
    command = [sys.executable, str(ROOT / "gen_pseudo_tools/generate_pseudo_label_stage1.py")]
    command += ["--predictions", "results/total_unlabelx4x32x1x1.pkl", "--data", "data"]
    command += ["--thresholds", str(PSEUDO_THRESHOLD), "--out", str(pseudo / "stage1.csv")]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    found = load_predictions(results / "aridx4x32x1x1.pkl")
    return {
        "names": found.names,
        "labels": found.labels.tolist(),
        "status": found.status,
        "num_clips": found.num_clips.tolist(),
        "logits": [[float(value) for value in row] for row in found.logits],
        "probs_sha256": sha256(found.probs.tobytes()),
        "meta": found.meta,
    }


def pipeline() -> dict[str, Any]:
    """Run a small chain of fake tasks to its end."""
    from nightcrawler.pipeline.runner import Runner, Settings
    from nightcrawler.pipeline.show import Screen
    from tests.pipeline import chain

    folder = chain.prepare(Path.cwd() / "fixtures/pipeline")
    # Commands without this machine's paths.
    program = shutil.copy(chain.FAKE, "fake_link.py")
    links = []
    for link in chain.small_chain(folder):
        at = link.command.index(str(chain.FAKE))
        command = ("python3", "-S", "-E", str(program), *link.command[at + 1 :])
        links.append(replace(link, command=command))
    about = {
        "recipe": "recipe.yaml",
        "labels": "label-free",
        "stages": [{"name": "first", "round": 0}, {"name": "second", "round": 1}],
        "class_names": ["Run", "Walk"],
        "models": list(chain.MODELS),
        "out": str(folder),
        "data": "data",
        "unlabelled": "total_unlabel",
        "test_splits": ["arid"],
        "vote_split": "arid",
    }
    for _ in range(2):
        settings = Settings(Path.cwd(), folder, 1, about=about)
        assert Runner(links, settings, None, Screen(quiet=True)).run() == 0
        # Hashes of files that have just been written are not remembered: the second run does.
        time.sleep(1)
    (folder / "journal").unlink()
    for leftover in [*folder.rglob("checkpoints"), folder / "logs"]:
        shutil.rmtree(leftover)
    for lock in folder.rglob("*.lock"):
        lock.unlink()
    times = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            times[path.relative_to(folder).as_posix()] = path.stat().st_mtime_ns
    return {"folder": str(folder), "tasks": [link.name for link in links], "mtime_ns": times}


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.chdir(folder)
    Path("fixtures").mkdir()
    expected = {"machine": machine(), "train": train(), "results": evaluate()}
    expected["pipeline"] = pipeline()
    Path("fixtures/expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    # The folder of this script comes first otherwise, whose `tests` is the new one.
    sys.path.pop(0)
    main(Path(sys.argv[1]))
