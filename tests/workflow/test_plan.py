"""From recipes to tasks: the published chain, the demo, one's own data, controls; every fault of a recipe is named."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.config.identity import MACHINE_KEYS
from nightcrawler.config.load import load_experiment
from nightcrawler.config.node import config_hash
from nightcrawler.pseudo.vote_recipe import read_vote_recipe
from nightcrawler.utils.errors import UserError
from nightcrawler.workflow.jobs import PlanOptions
from nightcrawler.workflow.plan import make_plan
from nightcrawler.workflow.recipe import Places, read_recipe
from nightcrawler.workflow.task import Task, dependencies, downstream
from tests.paths import ROOT
from tests.workflow import chain

UG2 = ROOT / "configs/pipeline/ug2_2022.yaml"
DEMO = ROOT / "configs/pipeline/demo.yaml"
OWN = ROOT / "configs/pipeline/own.yaml"
STAGES = ["exp_adapt_bn", *(f"exp_pseudo_stage{number}" for number in (1, 2, 3, 4))]
CLASSES = ["climb", "dance", "kneel", "row", "wave"]
MODELS_OF_OWN = ("uniformer", "slowfast")


def plan(path: Path, out: Path, places: Places | None = None, **options: Any) -> dict[str, Task]:
    """Tasks of a recipe by name, their experiments below `out`."""
    recipe = read_recipe(path, ROOT, places)
    tasks, _ = make_plan(
        recipe, PlanOptions(ROOT, out, out if out != ROOT else ROOT / "runs/x", **options)
    )
    return {task.name: task for task in tasks}


def value(task: Task, key: str) -> str:
    """The last value that a command gives a key."""
    places = [place for place, text in enumerate(task.command) if text == key]
    return task.command[places[-1] + 1]


@pytest.fixture
def own(tmp_path: Path) -> Places:
    """Five classes of three empty clips in the light, four in the dark."""
    names = [f"bright/{name}/{number}.mp4" for name in CLASSES for number in range(3)]
    for name in [*names, *(f"dark/{number}.mp4" for number in range(4))]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return Places(tmp_path / "data", tmp_path / "bright", tmp_path / "dark")


def test_an_output_folder_that_would_have_no_effect_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="OUTPUT_DIR 'runs/mine' has no effect in a pipeline"):
        plan(DEMO, tmp_path, overrides=("OUTPUT_DIR", "runs/mine"))


@pytest.mark.parametrize(
    "key", ["TEST.DATA_SELECT", "TEST.NUM_ENSEMBLE_VIEWS", "TEST.NUM_SPATIAL_CROPS"]
)
def test_a_key_that_tasks_set_themselves_is_an_error(tmp_path: Path, key: str) -> None:
    with pytest.raises(UserError, match=f"{key} has no effect in a pipeline"):
        plan(DEMO, tmp_path, overrides=(key, "1"))


def test_an_oracle_is_not_overruled(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"TRAIN\.BEST_SPLIT val_dry: --oracle picks"):
        plan(DEMO, tmp_path, overrides=("TRAIN.BEST_SPLIT", "val_dry"), oracle=True)


def test_labels_are_compared_with_those_of_the_round_before(own: Places, tmp_path: Path) -> None:
    tasks = plan(OWN, tmp_path / "out", own)
    assert "--before" not in tasks["label/round1"].command
    earlier = tmp_path / "out/pseudo/round1.csv"
    assert value(tasks["label/round2"], "--before") == str(earlier)
    # What is only counted is no input: chains of earlier versions stay up to date.
    assert earlier not in tasks["label/round2"].inputs.values()
    label_recipe = tmp_path / "labels.yaml"
    text = (ROOT / "configs/pseudo/default.yaml").read_text()
    label_recipe.write_text(text.replace("  AGREE: 0.75\n", "  AGREE: 0.75\n  AGREE_NEW: 1.0\n"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(OWN.read_text().replace("configs/pseudo/default.yaml", str(label_recipe)))
    chosen = plan(recipe, tmp_path / "out", own)["label/round2"]
    assert chosen.inputs["labels before"] == earlier
    assert chosen.signature != tasks["label/round2"].signature


def test_a_chain_of_earlier_results_goes_on_with_their_form(tmp_path: Path) -> None:
    before = plan(UG2, tmp_path)
    label = before["label/exp_pseudo_stage1"]
    assert {path.suffix for path in label.inputs.values()} == {".npz"}
    published = plan(UG2, tmp_path, overrides=("TEST.RESULTS_FORMAT", "pkl"))
    names = [name for name in before if name.startswith("test/exp_adapt_bn/")]
    for name in names:
        for path in published[name].outputs:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    after = plan(UG2, tmp_path)
    for name, task in before.items():
        # Nothing is out of date for it: only names of files differ.
        assert task.signature == after[name].signature == published[name].signature
        if name in names:
            assert after[name].outputs == published[name].outputs
            assert value(after[name], "TEST.RESULTS_FORMAT") == "pkl"
        elif task.kind == "test":
            assert after[name].outputs == task.outputs
    assert {path.suffix for path in after["label/exp_pseudo_stage1"].inputs.values()} == {".pkl"}
    # Asked for in so many words, the other form is written.
    asked = plan(UG2, tmp_path, overrides=("TEST.RESULTS_FORMAT", "npz"))
    assert asked[names[0]].outputs == before[names[0]].outputs


def test_the_published_chain_has_21_trainings_four_rounds_and_a_vote(tmp_path: Path) -> None:
    tasks = plan(UG2, tmp_path)
    counts = Counter(task.kind for task in tasks.values())
    assert (counts["train"], counts["label"], counts["vote"]) == (21, 4, 1)
    after = dependencies(list(tasks.values()))
    for number, stage in enumerate(STAGES[1:], start=1):
        label = tasks[f"label/{stage}"]
        assert sorted(after[label.name]) == sorted(
            f"test/{STAGES[number - 1]}/{Path(name).name}/total_unlabel" for name in label.inputs
        )
        assert label.command[1:5] == ("-m", "nightcrawler", "label", str(number))
        train = tasks[f"train/{stage}/mvit_b32_k600"]
        assert after[train.name] == (f"train/{STAGES[number - 1]}/mvit_b32_k600", label.name)
        assert value(train, "TRAIN.CHECKPOINT_FILE_PATH") == str(
            tmp_path / STAGES[number - 1] / "mvit_b32_k600/best.pyth"
        )
        assert (
            value(train, "DATA.PSEUDO_CSV")
            == str(tmp_path / f"pseudo/stage{number}.csv")
            == str(label.outputs[0])
        )
        assert value(train, "OUTPUT_DIR") == str(tmp_path / stage / "mvit_b32_k600")
    assert after["train/exp_experts/uniformer_b32_ssv2"] == ("label/exp_pseudo_stage4",)


def test_pseudo_labels_are_mixed_in_the_order_of_their_recipe(tmp_path: Path) -> None:
    label = plan(UG2, tmp_path)["label/exp_pseudo_stage1"]
    at = label.command.index("--predictions")
    names = [Path(text).parent.name for text in label.command[at + 1 : at + 5]]
    assert names == ["uniformer_b32_ssv2", "uniformer_b32_k600", "mvit_b32_k600", "sf32_k700"]


def test_the_vote_has_its_views_tested(tmp_path: Path) -> None:
    tasks = plan(UG2, tmp_path)
    recipe = read_vote_recipe(ROOT / "configs/vote/ug2_2022.yaml")
    wanted = {
        (folder, pair)
        for mode in recipe.modes.values()
        for folder, pair in zip(mode.ensemble.folders.values(), mode.ensemble.pairs, strict=True)
    }
    expert = tasks["test/exp_experts/uniformer_b32_ssv2/test"]
    assert (value(expert, "TEST.NUM_ENSEMBLE_VIEWS"), value(expert, "TEST.NUM_SPATIAL_CROPS")) == (
        "[1, 3]",
        "[1, 3]",
    )
    made = {path for task in tasks.values() for path in task.outputs}
    for folder, (views, crops) in wanted:
        assert tmp_path / folder / f"testx32x224x{views}x{crops}.npz" in made
    assert set(tasks["vote"].inputs.values()) <= made
    assert len(tasks["vote"].inputs) == len(wanted)


def test_without_out_experiments_stay_as_they_are(tmp_path: Path) -> None:
    """Then a run by hand has the configuration that the chain gives it, and can be imported."""
    tasks = plan(UG2, ROOT)
    task = tasks["train/exp_pseudo_stage2/sf32_k700"]
    assert value(task, "OUTPUT_DIR") == "exp_pseudo_stage2/sf32_k700"
    assert value(task, "TRAIN.CHECKPOINT_FILE_PATH") == "exp_pseudo_stage1/sf32_k700/best.pyth"
    assert value(task, "DATA.PSEUDO_CSV") == "pseudo/stage2.csv"
    assert tasks["label/exp_pseudo_stage2"].outputs[0] == ROOT / "data/pseudo/stage2.csv"
    assert task.run_hash == config_hash(load_experiment(task.folder / "config.yaml"), MACHINE_KEYS)


def test_what_a_setting_changes_is_done_again_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(MINIMAL)
    before = plan(path, tmp_path)

    def changed(*overrides: str) -> set[str]:
        after = plan(path, tmp_path, overrides=overrides)
        return {
            task.kind for name, task in before.items() if after[name].signature != task.signature
        }

    assert (
        changed(
            "NUM_THREADS",
            "3",
            "LOG_PERIOD",
            "7",
            "TEST.BATCH_SIZE",
            "2",
            "DATA_LOADER.NUM_WORKERS",
            "1",
        )
        == set()
    )
    assert changed("TEST.VIEWS", "published") == {"test"}
    assert changed("SOLVER.BASE_LR", "1e-3") == {"train", "test"}


def test_the_demo_lays_its_overlay_on_all_21(tmp_path: Path) -> None:
    tasks = plan(DEMO, tmp_path, control=("uniformer_b32_k600",))
    trainings = [
        task for task in tasks.values() if task.kind == "train" and not task.about["control"]
    ]
    assert len(trainings) == 21
    assert all(
        str(ROOT / "configs/demo.yaml") in task.command
        for task in tasks.values()
        if task.kind in ("train", "test")
    )
    shipped = ROOT / "configs/demo_weights"
    for task in trainings:
        assert task.inputs["start"].is_relative_to(shipped) != ("pseudo_stage" in task.name)
    assert {value(task, "DATA.PATH_PREFIX") for task in trainings} == {"data/synthetic"}


def test_controls_follow_one_another_beside_the_rounds(tmp_path: Path) -> None:
    tasks = plan(DEMO, tmp_path, control=("uniformer_b32_k600",))
    after = dependencies(list(tasks.values()))
    controls = [task for task in tasks.values() if task.kind == "train" and task.about["control"]]
    assert [task.about["stage"] for task in controls] == STAGES[1:]
    name = "uniformer_b32_k600"
    assert after[controls[0].name] == (f"train/exp_adapt_bn/{name}", "label/exp_pseudo_stage1")
    assert after[controls[1].name] == (
        f"train/control/exp_pseudo_stage1/{name}",
        "label/exp_pseudo_stage2",
    )
    assert f"test/control/exp_pseudo_stage4/{name}/test" in tasks
    assert not downstream({controls[0].name}, after) & {"vote", "label/exp_pseudo_stage2"}
    assert not any(task.about.get("control") for task in plan(UG2, tmp_path).values())


def test_missing_weights_are_said_once_before_anything_runs(tmp_path: Path) -> None:
    recipe = read_recipe(UG2, ROOT)
    _, about = make_plan(recipe, PlanOptions(ROOT, out=tmp_path, state=tmp_path))
    assert len(about["notes"]) == 4
    assert about["notes"][0].startswith("weights 'uniformer_base_sthv2_32_prek400' are missing: ")


def test_folders_that_a_run_would_refuse_are_refused_by_the_plan(
    tmp_path: Path, own: Places
) -> None:
    with pytest.raises(UserError, match=r"--dark .*bright: is inside .*bright"):
        plan(OWN, tmp_path / "out", replace(own, dark=own.bright))
    with pytest.raises(UserError, match=r"--data .*bright/climb: is inside .*bright"):
        plan(OWN, tmp_path / "out", replace(own, data=tmp_path / "bright/climb"))
    # Of an earlier run on other videos.
    (tmp_path / "data/dark_train").mkdir(parents=True)
    link = tmp_path / "data/dark_train/Train"
    link.symlink_to(tmp_path / "bright")
    with pytest.raises(UserError, match=r"exists with another content; .* by --data DIR"):
        plan(OWN, tmp_path / "out", own)
    link.unlink()
    link.symlink_to(tmp_path / "dark")
    assert "data" in plan(OWN, tmp_path / "out", own)


def test_own_data_brings_its_own_classes(tmp_path: Path, own: Places) -> None:
    tasks = plan(OWN, tmp_path / "out", own)
    assert next(iter(tasks)) == "data"
    names = ["train_label+val_dry", "val_dry", "dark_unlabel", "total_unlabel"]
    assert tasks["data"].outputs == tuple(tmp_path / "data" / f"{name}.csv" for name in names)
    trainings = [task for task in tasks.values() if task.kind == "train"]
    assert len(trainings) == 6
    for task in trainings:
        assert value(task, "MODEL.NUM_CLASSES") == "5"
        assert value(task, "MODEL.CLASS_NAMES") == '["climb", "dance", "kneel", "row", "wave"]'
        assert "data" in dependencies(list(tasks.values()))[task.name]
    second = tasks["train/round2/slowfast"]
    assert value(second, "TRAIN.CHECKPOINT_FILE_PATH") == str(
        tmp_path / "out/round1/slowfast/best.pyth"
    )
    assert value(second, "DATA.PSEUDO_CSV") == str(tmp_path / "out/pseudo/round2.csv")
    assert tasks["vote"].about["split"] == "total_unlabel"
    assert len(tasks["vote"].inputs) == 4
    (text,) = tasks["vote"].writes.values()
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    recipe = read_vote_recipe(path)
    assert [mode.ensemble.pairs[0] for mode in recipe.modes.values()] == [(1, 3), (3, 3)]
    assert list(recipe.mode(0).ensemble.folders.values()) == ["round2/uniformer", "round2/slowfast"]


def test_small_models_of_own_data_start_from_the_package(tmp_path: Path, own: Places) -> None:
    tasks = plan(ROOT / "configs/pipeline/own_small.yaml", tmp_path / "out", own)
    for model in ("uniformer_b32_k600", "sf32_k700"):
        start = tasks[f"train/adapt/{model}"].inputs["start"]
        assert start == ROOT / f"configs/demo_weights/{model}.safetensors"
        assert start.is_file()
        assert value(tasks[f"train/round1/{model}"], "MODEL.NUM_CLASSES") == "5"
    assert tasks["vote"].outputs[-1] == tmp_path / "out/submission/predictions.csv"


def test_tests_of_a_model_may_share_a_process(tmp_path: Path, own: Places) -> None:
    tasks = plan(OWN, tmp_path / "out", own)
    groups = {task.group for task in tasks.values() if task.kind == "test"}
    assert groups == {
        f"test/{task.about['experiment']}" for task in tasks.values() if task.kind == "train"
    }
    assert {task.group for task in tasks.values() if task.kind != "test"} == {""}


def test_own_recordings_are_passed_on(tmp_path: Path, own: Places) -> None:
    table = tmp_path / "rec.csv"
    rows = [f"{name}/{number}.mp4,r{number // 2}\n" for name in CLASSES for number in range(3)]
    table.write_text("".join(rows))
    recipe = tmp_path / "own.yaml"
    recipe.write_text(OWN.read_text().replace("RECORDINGS: name", f"RECORDINGS: {table}"))
    task = plan(recipe, tmp_path / "out", own)["data"]
    assert value(task, "--recordings") == str(table)
    table.write_text("climb/0.mp4,r\n")
    with pytest.raises(UserError, match=r"rec\.csv: has no recording of 'climb/1\.mp4'"):
        plan(recipe, tmp_path / "out", own)


def test_more_videos_make_the_lists_out_of_date(tmp_path: Path, own: Places) -> None:
    before = plan(OWN, tmp_path / "out", own)["data"].signature
    assert own.dark is not None
    assert plan(OWN, tmp_path / "out", own)["data"].signature == before
    (own.dark / "new.mp4").touch()
    assert plan(OWN, tmp_path / "out", own)["data"].signature != before


def test_a_whole_recipe_runs_with_fake_programs(tmp_path: Path, own: Places) -> None:
    """In order, once; a lost results file that nothing reads is made again, alone."""
    out = tmp_path / "out"
    tasks = chain.faked(list(plan(OWN, out, own).values()), tmp_path / "journal")
    assert chain.run(out, tasks, jobs=4)[0] == 0
    names = chain.started(tmp_path)
    assert sorted(names) == sorted(task.name for task in tasks)
    state = json.loads((out / "pipeline.json").read_text())
    assert {task["name"]: task["status"] for task in state["links"]} == dict.fromkeys(names, "done")
    assert all(task["seconds"] > 0 for task in state["links"])
    for task in tasks:
        if task.name == "test/round2/slowfast/val_dry":
            task.outputs[0].unlink()
    assert chain.run(out, tasks, jobs=4)[0] == 0
    assert chain.started(tmp_path) == ["test/round2/slowfast/val_dry"]


@pytest.mark.parametrize("name", ["ug2_2022", "demo"])
def test_signatures_are_those_of_version_0_1(name: str) -> None:
    """`signatures_0_1.json`, made by version 0.1: task to the start of its signature, and its run hash.

    A change here makes every pipeline that 0.1 finished run again.
    """
    kept = json.loads((Path(__file__).parent / "signatures_0_1.json").read_text())[name]
    # The colours of 0.1: with the exact ones, its pipelines are of another configuration.
    colours = ("DATA.COLOR", "published")
    tasks = plan(ROOT / f"configs/pipeline/{name}.yaml", Path("/x/out"), overrides=colours)
    assert list(tasks) == list(kept)
    for key, task in tasks.items():
        # The rules of configs/pseudo/default.yaml are stricter since, so its labels are due again.
        if name == "demo" and task.kind == "label":
            continue
        signature, _, run_hash = kept[key].partition(" ")
        found = [text[:16] for text in (task.signature, *task.older_signatures)]
        assert signature in found, key
        # The demo sets DATA.CACHE, which the hash held then; checkpoints hold the configuration too.
        if name == "ug2_2022":
            assert (task.signature[:16], task.run_hash) == (signature, run_hash), key


MINIMAL = """\
MODELS: {a: {CONFIG: configs/models/uniformer_b32_k600.yaml}, b: {CONFIG: configs/models/sf32_k700.yaml}}
STAGES:
  adapt: {CONFIG: configs/stages/adapt_bn.yaml}
  round1: {CONFIG: configs/stages/pseudo.yaml, LABELS: configs/pseudo/default.yaml}
"""


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("MODELS:", "MODEL:", "MODEL: unknown key"),
        (
            "CONFIG: configs/stages/adapt_bn.yaml",
            "CONFGI: x",
            "STAGES.adapt.CONFGI: unknown key, expected CONFIG, LABELS, LABELLED_BY, MODELS, SET",
        ),
        ("adapt:", "control:", "'control': expected a name of letters"),
        ("adapt:", "a/b:", "'a/b': expected a name of letters"),
        (
            "adapt_bn.yaml}",
            "adapt_bn.yaml, LABELS: configs/pseudo/default.yaml}",
            "from the second stage on",
        ),
        ("adapt_bn.yaml}", "adapt_bn.yaml, MODELS: [c]}", "'c' is not one of a, b"),
        (
            "adapt_bn.yaml}",
            "adapt_bn.yaml, MODELS: [a]}",
            r"adapt/b/best\.pyth, which no earlier stage trains",
        ),
        (
            "adapt: {CONFIG: configs/stages/adapt_bn.yaml}",
            "adapt: {}",
            "CONFIG is given for MODELS.a, but not for STAGES.adapt",
        ),
        (
            "{a: {CONFIG: configs/models/uniformer_b32_k600.yaml},",
            "{a: {},",
            "CONFIG is given for STAGES.adapt, but not for MODELS.a",
        ),
        (
            "pseudo/default.yaml",
            "pseudo/ug2_2022/ensemble.yaml",
            "the pipeline has a, b: give a recipe that names these",
        ),
        ("pseudo/default.yaml", "pseudo/gone.yaml", "gone.yaml: no such file"),
        ("models/sf32_k700", "models/gone", "gone.yaml: no such file"),
        (
            "STAGES:",
            "VOTE: {RECIPE: configs/vote/default.yaml}\nSTAGES:",
            "exp_pseudo_stage4/uniformer_b32_ssv2 is no",
        ),
        (
            "STAGES:",
            "VOTE: {RECIPE: a.yaml, VIEWS: [[1, 1]]}\nSTAGES:",
            "has no effect beside VOTE.RECIPE",
        ),
        ("STAGES:", "VOTE: {VIEWS: [1, 3]}\nSTAGES:", r"expected a list of \[views, crops\]"),
        ("STAGES:", "SET: {SOLVER.EPOCHS: 3}\nSTAGES:", "SOLVER.EPOCHS: unknown key"),
        ("STAGES:", "DATA: {BRIGHT: b}\nSTAGES:", "own videos need BRIGHT"),
        ("STAGES:", "DATA: {BRIGHT: b, DARK: d, FOLDER: f}\nSTAGES:", "b: no such folder"),
        (
            "STAGES:",
            "DATA: {BRIGHT: b, DARK: d, FOLDER: f, VAL_FRACTION: 1}\nSTAGES:",
            "less than 1",
        ),
        ("STAGES:", "CONTROL: [c]\nSTAGES:", "'c' is not one of a, b"),
        (
            "LABELS: configs/pseudo/default.yaml",
            "LABELS: configs/pseudo/default.yaml, LABELLED_BY: round1",
            r"round1.LABELLED_BY: 'round1' is not one of the stages before \(adapt\)",
        ),
        (
            "LABELS: configs/pseudo/default.yaml",
            "LABELLED_BY: adapt",
            "round1.LABELLED_BY: has no effect without LABELS",
        ),
        ("STAGES:", "TEST: {SPLITS: [a, a]}\nSTAGES:", "a name is given twice"),
    ],
)
def test_faults_of_a_recipe_are_named(tmp_path: Path, old: str, new: str, fault: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(MINIMAL)
    assert plan(path, tmp_path)
    assert old in MINIMAL
    path.write_text(MINIMAL.replace(old, new, 1))
    with pytest.raises(UserError, match=fault):
        plan(path, tmp_path)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("MODELS: {a: 3}\nSTAGES: {s: {}}\n", ["1: MODELS.a: 3: expected KEY: value lines"]),
        (
            "MODELS: {a: {}}\nSTAGES:\n  s: {LABEL: x}\nVOTE:\n  SPLITS: test\n",
            [
                "3: STAGES.s.LABEL: unknown key, expected CONFIG, LABELS, LABELLED_BY, MODELS, SET",
                "5: VOTE.SPLITS: unknown key, expected RECIPE, VIEWS, ROUNDS, SPLIT",
            ],
        ),
        ("MODELS: [a, a]\nSTAGES: [s]\n", ["1: MODELS: 'a': expected a list of different names"]),
        ("STAGES: [s]\n", [" MODELS: expected at least one"]),
        ("MODELS: [a]\nSTAGES: [s]\nSET: 3\n", ["3: SET: 3: expected KEY: value lines"]),
        (
            "MODELS: [a]\nSTAGES: [s]\nDATA:\n  SEED: 1.5\n",
            ["4: DATA.SEED: 1.5: it should be a valid integer"],
        ),
        (
            "MODELS: [a]\nMODELS.a: 1\nSTAGES: [s]\n",
            ["2: MODELS.a: MODELS is already given as a value"],
        ),
    ],
)
def test_every_fault_has_a_line_of_its_own(tmp_path: Path, text: str, faults: list[str]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_recipe(path, ROOT)
    lines = str(error.value).splitlines()
    assert [line.removeprefix(f"{path}:") for line in lines] == faults


def test_names_alone_are_empty_sections(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "MODELS: [a, b]\nSTAGES: {s: , t: {}}\nSET: {A: {B: [1, x], C: true}, D.E: 2.5}\n"
    )
    recipe = read_recipe(path, ROOT)
    assert [stage.models for stage in recipe.stages] == [("a", "b")] * 2
    assert recipe.settings == {"A.B": '[1, "x"]', "A.C": "True", "D.E": "2.5"}


def test_a_recipe_for_other_classes_is_refused(tmp_path: Path, own: Places) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        OWN.read_text().replace("VIEWS: [[1, 3], [3, 3]]", "RECIPE: configs/vote/ug2_2022.yaml")
    )
    with pytest.raises(
        UserError, match=r"has the classes Drink, Jump.*; the models have climb, dance"
    ):
        plan(path, tmp_path, own)


def test_settings_of_model_and_stage_win_in_that_order(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    text = MINIMAL.replace("k600.yaml}", "k600.yaml, SET: {RNG_SEED: 2, LOG_PERIOD: 2}}")
    text = text.replace(
        "adapt_bn.yaml}",
        "adapt_bn.yaml, SET: {LOG_PERIOD: 3, TRAIN.CHECKPOINT_FILE_PATH: 'w/{model}.pyth'}}",
    )
    path.write_text(text + "SET: {RNG_SEED: 1, LOG_PERIOD: 1, NUM_THREADS: 1}\n")
    task = plan(path, tmp_path, overrides=("NUM_THREADS", "4"))["train/adapt/a"]
    keys = ("RNG_SEED", "LOG_PERIOD", "NUM_THREADS", "TRAIN.CHECKPOINT_FILE_PATH")
    assert [value(task, key) for key in keys] == ["2", "3", "4", "w/a.pyth"]
    assert task.inputs["start"] == ROOT / "w/a.pyth"


def test_a_model_that_is_named_in_the_recipe_may_weigh_more(tmp_path: Path) -> None:
    labels = tmp_path / "labels.yaml"
    labels.write_text(
        "MODELS: {x: b, y: a}\nENSEMBLE: {WEIGHTS: {x: 0.7, y: 0.3}, VIEWS: {x: [1, 3], y: [1, 1]}}\n"
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(MINIMAL.replace("configs/pseudo/default.yaml", str(labels)))
    tasks = plan(path, tmp_path)
    label = tasks["label/round1"]
    at = label.command.index("--predictions")
    assert [Path(text).relative_to(tmp_path) for text in label.command[at + 1 : at + 3]] == [
        Path("adapt/b/total_unlabelx32x224x1x3.npz"),
        Path("adapt/a/total_unlabelx32x224x1x1.npz"),
    ]
    labels.write_text(labels.read_text().replace("0.7", "0.6"))
    assert plan(path, tmp_path)["label/round1"].signature != label.signature
    assert replace(label, signature=tasks["label/round1"].signature) == label


CROSSED = """\
MODELS: {a: {CONFIG: configs/models/uniformer_b32_k600.yaml}, b: {CONFIG: configs/models/sf32_k700.yaml}}
STAGES:
  adapt: {CONFIG: configs/stages/adapt_bn.yaml}
  a1: {CONFIG: configs/stages/pseudo.yaml, MODELS: a, LABELS: LABELS, LABELLED_BY: adapt}
  b1: {CONFIG: configs/stages/pseudo.yaml, MODELS: b, LABELS: LABELS, LABELLED_BY: [a1]}
  a2: {CONFIG: configs/stages/pseudo.yaml, MODELS: a, LABELS: LABELS, LABELLED_BY: [adapt, b1]}
VOTE: {VIEWS: [[1, 1]], SPLIT: total_unlabel}
"""


def test_a_model_learns_from_the_labels_of_others_and_goes_on_from_its_own_weights(
    tmp_path: Path,
) -> None:
    labels = tmp_path / "labels.yaml"
    labels.write_text("MODELS: {x: x}\nENSEMBLE: {WEIGHTS: equal}\n")
    path = tmp_path / "recipe.yaml"
    path.write_text(CROSSED.replace("LABELS: LABELS", f"LABELS: {labels}"))
    tasks = plan(path, tmp_path)
    results = "total_unlabelx32x224x1x1.npz"
    read = {name: set(tasks[f"label/{name}"].inputs.values()) for name in ("a1", "b1", "a2")}
    assert read == {
        "a1": {tmp_path / f"adapt/{model}" / results for model in "ab"},
        "b1": {tmp_path / "a1/a" / results},
        "a2": {tmp_path / job / results for job in ("adapt/a", "adapt/b", "b1/b")},
    }
    # Models start from their own last weights, whichever stage was between.
    assert tasks["train/b1/b"].inputs["start"] == tmp_path / "adapt/b/best.pyth"
    assert tasks["train/a2/a"].inputs["start"] == tmp_path / "a1/a/best.pyth"
    assert tasks["train/a2/a"].inputs["pseudo"] == tmp_path / "pseudo/a2.csv"


def test_models_of_other_stages_are_weighed_by_their_full_names(tmp_path: Path) -> None:
    labels = tmp_path / "labels.yaml"
    named = "{x: b1/b, y: adapt/b, z: adapt/a}"
    labels.write_text(f"MODELS: {named}\nENSEMBLE: {{WEIGHTS: {{x: 3, y: 2, z: 1}}}}\n")
    equal = tmp_path / "equal.yaml"
    equal.write_text("MODELS: {x: x}\nENSEMBLE: {WEIGHTS: equal}\n")
    path = tmp_path / "recipe.yaml"
    first, _, last = CROSSED.rpartition("LABELS: LABELS")
    first = first.replace("LABELS: LABELS", f"LABELS: {equal}")
    path.write_text(f"{first}LABELS: {labels}{last}")
    task = plan(path, tmp_path)["label/a2"]
    at = task.command.index("--predictions")
    names = [Path(text).parent.relative_to(tmp_path) for text in task.command[at + 1 : at + 4]]
    assert names == [Path("b1/b"), Path("adapt/b"), Path("adapt/a")]


def test_poses_and_pictures_teach_each_other(tmp_path: Path, own: Places) -> None:
    tasks = plan(ROOT / "configs/pipeline/sim_to_real.yaml", tmp_path, own)

    def sources(task: str) -> list[str]:
        command = tasks[task].command
        at = command.index("--predictions") + 1
        return [str(Path(text).parent.relative_to(tmp_path)) for text in command[at : at + 3]]

    (only,) = tasks["label/pictures1"].inputs
    assert only == "pose0/pose"
    pictures = ["pictures1/uniformer", "pictures1/slowfast"]
    assert sources("label/pose1") == ["pose0/pose", *pictures]
    assert sources("label/pictures2") == ["pose1/pose", *pictures]
    # Every round starts from the weights inside the package, and none fits a camera.
    packaged = {"pose": "poseconv", "uniformer": "uniformer_b32_k600", "slowfast": "sf32_k700"}
    for name, task in tasks.items():
        if name.startswith("train/"):
            weights = packaged[name.rpartition("/")[2]]
            assert task.inputs["start"] == ROOT / f"configs/demo_weights/{weights}.safetensors"
    assert not [name for name in tasks if "val_dark" in name]


def test_pseudo_labels_wait_for_what_calibrates_them(tmp_path: Path, own: Places) -> None:
    tasks = plan(OWN, tmp_path / "out", own)
    after = dependencies(list(tasks.values()))
    label = tasks["label/round2"]
    tests = [
        f"test/round1/{model}/{split}"
        for split in ("total_unlabel", "val_dark")
        for model in MODELS_OF_OWN
    ]
    assert set(after["label/round2"]) == {*tests, "data"}
    at, to = (label.command.index(option) for option in ("--calibrate", "--labelled"))
    found = [tmp_path / f"out/round1/{model}/val_darkx32x224x1x1.npz" for model in MODELS_OF_OWN]
    assert list(label.command[at + 1 : to]) == list(map(str, found))
    assert label.command[to + 1] == str(tmp_path / "data/train_label+val_dry.csv")
    assert "--oracle" not in label.command
    assert value(tasks["train/adapt/uniformer"], "TRAIN.VAL_SPLITS") == '["val_dry", "val_dark"]'


@pytest.mark.parametrize("kind", ["train", "test"])
def test_clips_that_cameras_are_fitted_to_count_where_bright_ones_are_darkened(
    tmp_path: Path, kind: str
) -> None:
    name = "exp_adapt_bn/mvit_b32_k600"
    task = plan(DEMO, tmp_path)[f"{kind}/{name}" if kind == "train" else f"{kind}/{name}/val_dark"]
    lists = {
        "list val_dark": "val_dry",
        "list total_unlabel": "total_unlabel",
        "list train": "train_label+val_dry",
    }
    assert {key: task.inputs[key].stem for key in lists} == lists
    preset = plan(DEMO, tmp_path, overrides=("DATA.CAMERA", "night"))
    assert "list total_unlabel" not in preset[f"test/{name}/val_dark"].inputs
    given = plan(DEMO, tmp_path, overrides=("DATA.CAMERA", "own.yaml"))[f"test/{name}/val_dark"]
    assert given.inputs["cameras"] == ROOT / "data/synthetic/own.yaml"


@pytest.mark.parametrize("kind", ["train", "test"])
def test_weights_of_an_enhancement_count(tmp_path: Path, kind: str) -> None:
    name = "exp_adapt_bn/mvit_b32_k600"
    overrides = ("ENHANCE.TEST", "zero_dce", "ENHANCE.ZERO_DCE_WEIGHTS", "weights/Epoch99.pth")
    task = plan(DEMO, tmp_path, overrides=overrides)[
        f"{kind}/{name}" if kind == "train" else f"{kind}/{name}/test"
    ]
    assert task.inputs["zero_dce weights"] == ROOT / "weights/Epoch99.pth"


def test_cameras_that_training_clips_pass_through_count(tmp_path: Path) -> None:
    validated = (
        "TRAIN.VAL_SPLITS",
        '["val_dry"]',
        "TRAIN.BEST_SPLIT",
        "val_dry",
        "DATA.CAMERA",
        "own.yaml",
    )
    darkened = (*validated, "AUG.DARKEN", "0.5", "ENHANCE.TRAIN", "gamma")
    # An oracle calibrates its thresholds on dark clips.
    task = plan(DEMO, tmp_path, overrides=(*darkened, "TRAIN.BEST_SPLIT", "arid"), oracle=True)[
        "train/exp_adapt_bn/mvit_b32_k600"
    ]
    with pytest.raises(
        UserError,
        match=r"exp_adapt_bn/\w+ trains on clips of the cameras of val_dark \(AUG.DARKEN\), which "
        "calibrates the thresholds of its labels: set AUG.DARKEN 0, or SPLIT val_dry",
    ):
        plan(DEMO, tmp_path, overrides=darkened)
    assert task.inputs["cameras"] == ROOT / "data/synthetic/own.yaml"


def test_an_oracle_chooses_everything_by_labels_of_dark_clips(tmp_path: Path) -> None:
    tasks = plan(DEMO, tmp_path, oracle=True)
    trainings = [task for task in tasks.values() if task.kind == "train"]
    assert {value(task, "TRAIN.BEST_SPLIT") for task in trainings} == {"arid"}
    for task in tasks.values():
        if task.kind == "label":
            assert "--oracle" in task.command
            assert sum("/aridx" in text for text in task.command) == 4
            assert not any("val_dark" in text for text in task.command)
    free = plan(DEMO, tmp_path)
    assert all(
        free[task.name].signature != task.signature
        for task in tasks.values()
        if task.kind in ("train", "label")
    )


@pytest.mark.parametrize(
    ("path", "options", "expected"),
    [
        (DEMO, {}, "label-free"),
        (DEMO, {"oracle": True}, "oracle"),
        (DEMO, {"overrides": ("TRAIN.BEST_SPLIT", "arid")}, "oracle"),
        (UG2, {}, "oracle"),
    ],
)
def test_the_chain_says_whether_its_choices_are_label_free(
    tmp_path: Path, path: Path, options: dict[str, Any], expected: str
) -> None:
    _, about = make_plan(read_recipe(path, ROOT), PlanOptions(ROOT, tmp_path, tmp_path, **options))
    assert about["labels"] == expected
