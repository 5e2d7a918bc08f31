"""The 21 experiments: they load, hold the published hyper-parameters, form a chain, and start from any folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.config.load import load_experiment
from nightcrawler.config.node import dump, flatten
from nightcrawler.config.yaml import read_yaml
from nightcrawler.models.zoo import ZOO
from nightcrawler.pseudo.label_recipe import read_label_recipe
from tests.paths import ROOT

MODELS = ("uniformer_b32_k600", "uniformer_b32_ssv2", "mvit_b32_k600", "sf32_k700")
STAGES = (
    "exp_adapt_bn",
    "exp_pseudo_stage1",
    "exp_pseudo_stage2",
    "exp_pseudo_stage3",
    "exp_pseudo_stage4",
)
EXPERT = "exp_experts/uniformer_b32_ssv2"
CHAIN = [f"{stage}/{model}" for stage in STAGES for model in MODELS]
EXPERIMENTS = [*CHAIN, EXPERT]
SKELETON = "exp_pose/skeleton"
LAST = [name for name in EXPERIMENTS if name.startswith(("exp_pseudo_stage4", "exp_experts"))]
DEMO = ROOT / "configs" / "demo.yaml"

PUBLISHED = ROOT / "configs/stages/published.yaml"

# What all published runs share.
SHARED = {
    "RNG_SEED": 6666,
    "DATA.NUM_FRAMES": 32,
    "DATA.TRAIN_CROP_SIZE": 224,
    "DATA.TEST_CROP_SIZE": 224,
    "DATA.MEAN": [0.45, 0.45, 0.45],
    "DATA.STD": [0.225, 0.225, 0.225],
    "DATA.TRAIN_SPLIT": "train",
    "AUG.SCALE": [0.08, 1.0],
    "AUG.ASPECT": [0.75, 1.3333],
    "AUG.AA_TYPE": "rand-m7-n4-mstd0.5-inc1",
    "AUG.NUM_SAMPLE": 2,
    "AUG.RE_PROB": 0.25,
    "AUG.RE_MODE": "pixel",
    "AUG.RE_COUNT": 1,
    "MIXUP.ENABLE": True,
    "MIXUP.ALPHA": 0.8,
    "MIXUP.CUTMIX_ALPHA": 1.0,
    "MIXUP.PROB": 1.0,
    "MIXUP.SWITCH_PROB": 0.5,
    "MIXUP.LABEL_SMOOTH_VALUE": 0.1,
    "SOLVER.OPTIMIZING_METHOD": "adamw",
    "SOLVER.BETAS": [0.9, 0.999],
    "SOLVER.BASE_LR": 1e-4,
    "SOLVER.COSINE_END_LR": 1e-6,
    "SOLVER.WARMUP_START_LR": 1e-6,
    "SOLVER.WARMUP_EPOCHS": 10.0,
    "SOLVER.COSINE_AFTER_WARMUP": True,
    "SOLVER.CLIP_GRAD_L2NORM": 20.0,
    "TRAIN.BATCH_SIZE": 32,
    "ENHANCE.GAMMA": 0.25,
    "ENHANCE.VAL": "gamma",
    "ENHANCE.TEST": "gamma",
    "ADAPT.NAME": "batchnorm",
    "ADAPT.SPLIT": "total_unlabel",
    "BN.NUM_BATCHES_PRECISE": 200,
    "MODEL.NUM_CLASSES": 11,
    "MODEL.CLASS_NAMES": [
        "Drink",
        "Jump",
        "Pick",
        "Pour",
        "Push",
        "Run",
        "Sit",
        "Stand",
        "Turn",
        "Walk",
        "Wave",
    ],
}
# What each model has of its own: architecture, epochs, weight decay, dropout before the classifier, drop path, and
# the public weights it starts from.
OWN = {
    "uniformer_b32_k600": ("uniformer", 20, 0.03, 0.0, 0.3, "uniformer_base_k600_32x4"),
    "uniformer_b32_ssv2": ("uniformer", 30, 0.03, 0.0, 0.3, "uniformer_base_sthv2_32_prek400"),
    "mvit_b32_k600": ("mvit", 20, 0.1, 0.5, 0.3, "mvit_b_32x3_k600"),
    "sf32_k700": ("slowfast", 40, 0.03, 0.3, 0.0, "slowfast_r101_8x8_k700"),
}


def values(name: str, *overlays: Path) -> dict[str, Any]:
    return flatten(load_experiment(ROOT / name / "config.yaml", overlays))


def test_there_are_these_21_experiments_and_no_other() -> None:
    found = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("exp_*/*/config.yaml")}
    assert found == {*EXPERIMENTS, SKELETON}
    assert len(EXPERIMENTS) == 21


def test_the_experiment_of_skeletons_is_laid_out_as_the_others() -> None:
    for script in ("run.sh", "test.sh"):
        text = (ROOT / SKELETON / script).read_text()
        assert text == (ROOT / EXPERT / script).read_text()
    found = values(SKELETON)
    assert (found["DATA.INPUT"], found["MODEL.NAME"]) == ("pose", "poseconv")
    assert (found["ADAPT.NAME"], found["RNG_SEED"]) == ("none", SHARED["RNG_SEED"])
    # Bright clips select the checkpoint: no label of a dark clip is used.
    assert found["TRAIN.BEST_SPLIT"] == "val_dry"
    assert values(SKELETON, ROOT / "configs/models/stgcn.yaml")["MODEL.NAME"] == "stgcn"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_shared_hyper_parameters_are_the_published_ones(name: str) -> None:
    found = values(name)
    assert {key: found[key] for key in SHARED} == SHARED


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_hyper_parameters_of_the_model_are_the_published_ones(name: str) -> None:
    found = values(name)
    keys = (
        "MODEL.NAME",
        "SOLVER.MAX_EPOCH",
        "SOLVER.WEIGHT_DECAY",
        "MODEL.DROPOUT_RATE",
        "MODEL.DROP_PATH_RATE",
    )
    assert tuple(found[key] for key in keys) == OWN[Path(name).name][:5]
    assert found["ADAPT.ALLOW_NO_BATCHNORM"] == ("mvit" in name)


@pytest.mark.parametrize("model", MODELS)
def test_a_stage_starts_from_the_best_weights_of_the_one_before(model: str) -> None:
    starts = [values(f"{stage}/{model}")["TRAIN.CHECKPOINT_FILE_PATH"] for stage in STAGES]
    assert starts == [OWN[model][5], *[f"{stage}/{model}/best.pyth" for stage in STAGES[:-1]]]
    assert OWN[model][5] in ZOO


@pytest.mark.parametrize("name", CHAIN)
def test_a_stage_reads_its_own_pseudo_labels(name: str) -> None:
    found, number = values(name), STAGES.index(Path(name).parent.name)
    assert found["DATA.PSEUDO_CSV"] == (f"pseudo/stage{number}.csv" if number else "")
    assert found["DATA.SAMPLING"] == "segment"
    if number:
        assert (found["TRAIN.EPOCH_LENGTH"], found["TRAIN.JOINT_STEP"]) == ("pseudo", False)


def test_the_expert_samples_densely_and_starts_from_public_weights() -> None:
    found = values(EXPERT)
    assert (found["DATA.SAMPLING"], found["DATA.SAMPLING_RATE"]) == ("dense", 2)
    assert found["TRAIN.CHECKPOINT_FILE_PATH"] == "uniformer_base_sthv2_32_prek400"
    assert found["DATA.PSEUDO_CSV"] == "pseudo/stage4.csv"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_models_are_tested_on_unlabelled_clips_until_the_last_stage(name: str) -> None:
    from nightcrawler.data.build import view_crop_pairs_of

    cfg = load_experiment(ROOT / name / "config.yaml")
    found = (cfg.TEST.DATA_SELECT, view_crop_pairs_of(cfg))
    assert found == (("test", [(1, 3), (3, 3)]) if name in LAST else ("total_unlabel", [(1, 1)]))
    assert cfg.TEST.CHECKPOINT_FILE_PATH == ""


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_label_of_a_dark_clip_picks_a_checkpoint(name: str) -> None:
    from nightcrawler.engine.run_metadata import label_use_of

    cfg = load_experiment(ROOT / name / "config.yaml")
    assert label_use_of(cfg) == "label-free"
    assert cfg.TRAIN.BEST_SPLIT in cfg.TRAIN.VAL_SPLITS


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_demo_shrinks_the_experiment_and_leaves_the_method(name: str) -> None:
    full, small = values(name), values(name, DEMO)
    assert (small["DATA.NUM_FRAMES"], small["DATA.TRAIN_CROP_SIZE"]) == (8, 48)
    assert small["SOLVER.MAX_EPOCH"] < full["SOLVER.MAX_EPOCH"]
    kept = [key for key in full if key.startswith(("ADAPT.", "ENHANCE.", "BN."))]
    kept += [
        "MODEL.NAME",
        "DATA.PSEUDO_CSV",
        "DATA.SAMPLING",
        "TEST.DATA_SELECT",
        "TEST.NUM_ENSEMBLE_VIEWS",
    ]
    kept += ["TRAIN.CHECKPOINT_FILE_PATH", "TRAIN.EPOCH_LENGTH", "TRAIN.BEST_SPLIT"]
    assert {key: small[key] for key in kept} == {key: full[key] for key in kept}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_folder_holds_only_what_makes_it_different(name: str) -> None:
    file = read_yaml(ROOT / name / "config.yaml")
    assert [Path(base).parent.name for base in file.bases] == ["models", "stages"]
    assert Path(file.bases[0]).stem == Path(name).name
    assert set(file.values) <= {"DATA.PSEUDO_CSV", "TRAIN.CHECKPOINT_FILE_PATH"}
    assert {"config.yaml", "run.sh", "test.sh"} <= {path.name for path in (ROOT / name).iterdir()}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_resolved_configuration_loads_back(name: str, tmp_path: Path) -> None:
    cfg = load_experiment(ROOT / name / "config.yaml")
    (tmp_path / "all.yaml").write_text(dump(cfg), encoding="utf-8")
    assert load_experiment(tmp_path / "all.yaml") == cfg


# --- scripts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["run.sh", "test.sh"])
def test_scripts_are_the_same_in_every_folder(script: str) -> None:
    assert len({(ROOT / name / script).read_bytes() for name in EXPERIMENTS}) == 1
    assert all(os.access(ROOT / name / script, os.X_OK) for name in EXPERIMENTS)


@pytest.mark.parametrize(
    "script",
    [f"{EXPERT}/run.sh", f"{EXPERT}/test.sh", "tools/launch.sh", "tools/demo.sh", "tools/real.sh"],
)
def test_scripts_are_bash(script: str) -> None:
    subprocess.run(["bash", "-n", ROOT / script], check=True)


@pytest.mark.parametrize(("size", "preset"), [("small", "street"), ("full", "darker")])
def test_the_demo_renders_the_clips_of_its_preset(tmp_path: Path, size: str, preset: str) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$*"\n')
    python.chmod(0o755)
    done = subprocess.run(
        ["bash", ROOT / "tools" / "demo.sh"],
        env={"PATH": os.environ["PATH"], "PYTHON": str(python), "SIZE": size, "POSE": "0"}
        | {"DATA": str(tmp_path / "data"), "OUT": str(tmp_path), "SEED": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    (rendered,) = [line for line in done.stdout.splitlines() if "make_synthetic.py" in line]
    words = rendered.split()
    assert words.count("--preset") == 1
    assert words[words.index("--preset") + 1] == preset
    assert words[words.index("--seed") + 1] == "2"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """An experiment and the launcher under a path with a space, and a `python` that prints what it is given."""
    project = tmp_path / "night crawler"
    for name in (EXPERT, "tools"):
        shutil.copytree(
            ROOT / name,
            project / name,
            ignore=shutil.ignore_patterns("*.pkl", "*.pyth", "__pycache__"),
        )
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    return project


def started(project: Path, script: str, *arguments: str, **environment: str) -> list[str]:
    """The arguments that a script gives to python, called from another folder."""
    done = subprocess.run(
        ["bash", project / EXPERT / script, *arguments],
        cwd=project.parent,
        env={"PATH": os.environ["PATH"], "PYTHON": str(project.parent / "python"), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(("script", "task"), [("run.sh", "train"), ("test.sh", "test")])
def test_a_script_starts_its_task_from_any_folder(copied: Path, script: str, task: str) -> None:
    found = started(copied, script, "--overlay", "my file.yaml", "OUTPUT_DIR", "", NPROC="1")
    net, config = copied / "tools" / "run_net.py", copied / EXPERT / "config.yaml"
    assert found == [
        str(net),
        task,
        "--cfg",
        str(config),
        "--overlay",
        "my file.yaml",
        "OUTPUT_DIR",
        "",
    ]


def test_several_processes_start_through_the_launcher_of_torch(copied: Path) -> None:
    found = started(copied, "run.sh", "RNG_SEED", "1", NPROC="2")
    assert found[:5] == [
        "-m",
        "nightcrawler.engine.launch",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    assert found[5:7] == ["--max-restarts", "0"]
    assert found[7:9] == [str(copied / "tools" / "run_net.py"), "train"]
    assert found[-2:] == ["RNG_SEED", "1"]


def test_several_machines_need_a_meeting_point(copied: Path) -> None:
    settings = {"NPROC": "1", "NNODES": "2", "NODE_RANK": "1", "RDZV": "host:29400"}
    found = started(copied, "run.sh", **settings)
    for option, value in (
        ("--nnodes", "2"),
        ("--node-rank", "1"),
        ("--rdzv-endpoint", "host:29400"),
    ):
        assert found[found.index(option) + 1] == value
    del settings["RDZV"]
    with pytest.raises(subprocess.CalledProcessError) as caught:
        started(copied, "run.sh", **settings)
    assert "RDZV" in caught.value.stderr


def test_the_student_learns_from_the_ensemble_through_the_second_stream() -> None:
    student, stage = (
        ROOT / "configs/models/uniformer_s16_k400.yaml",
        ROOT / "configs/stages/distil.yaml",
    )
    found = flatten(load_experiment(student, [stage], ["OUTPUT_DIR", "runs/distil"]))
    assert (found["MODEL.PSEUDO_LOSS"], found["DATA.PSEUDO_CSV"]) == ("kl", "pseudo/distil.csv")
    assert (found["DATA.NUM_FRAMES"], found["UNIFORMER.DEPTH"]) == (16, [3, 4, 8, 3])
    assert found["TRAIN.CHECKPOINT_FILE_PATH"] in ZOO
    recipe = read_label_recipe(ROOT / "configs/pseudo/distil.yaml")
    assert (recipe.method, recipe.labels) == ("all", "label-free")
    assert sorted(recipe.ensemble.folders.values()) == sorted(MODELS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_published_ways_are_laid_over_every_experiment(name: str) -> None:
    path = ROOT / name / "config.yaml"
    cfg = flatten(load_experiment(path, [PUBLISHED]))
    file = read_yaml(PUBLISHED)
    has_pseudo = bool(cfg["DATA.PSEUDO_CSV"])
    left_out = set()
    if not has_pseudo:
        left_out |= {"TRAIN.EPOCH_LENGTH"}
    if cfg["DATA.SAMPLING"] == "dense":
        left_out |= {"TEST.VIEWS"}
    for key, value in file.values.items():
        if key in left_out:
            assert cfg[key] != value, key
        else:
            assert cfg[key] == value, key


def test_every_published_way_exists_and_differs_from_ours() -> None:
    values = read_yaml(PUBLISHED).values
    ours = [flatten(load_experiment(ROOT / name / "config.yaml")) for name in EXPERIMENTS]
    for key, value in values.items():
        assert any(cfg[key] != value for cfg in ours), key
    # Each row of the table that a key restores is in the overlay, but for arithmetic of recipes,
    # weights that never loaded, and a loss that no published run used.
    table = (ROOT / "docs/migrating.md").read_text().partition("### What differs")[2]
    table = table.partition("## From version")[0]
    restored = set()
    for line in table.splitlines():
        if line.startswith("|"):
            restored |= set(re.findall(r"`([A-Z]+\.[A-Z_]+) [^`]+`", line.split("|")[-2]))
    restored -= {"TRAIN.CHECKPOINT_FILE_PATH", "MODEL.PSEUDO_LOSS", "TRAIN.THRESHOLD"}
    restored -= {"ENSEMBLE.NORMALIZE", "VOTE.TIE"}
    assert restored == set(values)
