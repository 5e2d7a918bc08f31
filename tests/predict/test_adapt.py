"""`predict --adapt`: models that learn from the videos before they answer, without labels."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nightcrawler.adapt.base import AdaptReport
from nightcrawler.adapt.batchnorm import BatchNormAdapter, batchnorm_layers
from nightcrawler.cli import main as program
from nightcrawler.predict.adapt import BATCH_CLIPS, adapt
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.ensemble import Ensemble, build_ensemble
from nightcrawler.predict.sources import find_videos
from nightcrawler.utils.errors import UserError

NUM_VIDEOS = 6
# Such as ADAPT.NAME.
CONFIG_KEY = re.compile(r"\b[A-Z_]{2,}\.[A-Z_]{2,}\b")


@pytest.fixture
def clips(data: Path, tmp_path: Path) -> Path:
    """A folder of the user's own videos."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number, path in enumerate(sorted((data / "dark_train/Train").glob("*.mp4"))[:NUM_VIDEOS]):
        shutil.copy(path, folder / f"{number}.mp4")
    return folder


def build(models: list[Path], adapter: str) -> Ensemble:
    return build_ensemble(models, None, Path(), PredictOptions((1, 1), adapter=adapter))


def statistics(ensemble: Ensemble) -> list[torch.Tensor]:
    """Running means of all models."""
    found: list[torch.Tensor] = []
    for predictor in ensemble.predictors:
        for layer in batchnorm_layers(predictor.model).values():
            assert layer.running_mean is not None
            found.append(layer.running_mean.clone())
    return found


def test_statistics_are_those_of_the_videos(models: list[Path], clips: Path) -> None:
    items = find_videos(clips, 11)
    adapted, [report, _] = adapt(build(models, "batchnorm"), items)
    assert report.num_clips == NUM_VIDEOS
    expected = build(models, "none")
    for predictor in expected.predictors:
        joined = torch.cat(list(predictor.clips(items)))
        BatchNormAdapter().run(predictor.model, joined.split(BATCH_CLIPS))
    for found, wanted in zip(statistics(adapted), statistics(expected), strict=True):
        assert torch.equal(found, wanted)
    assert not torch.equal(statistics(adapted)[0], statistics(build(models, "none"))[0])
    assert not adapted.predictors[0].model.training


def test_tent_changes_scales(models: list[Path], clips: Path) -> None:
    before = build(models[:1], "tent")
    scales = {
        name: value.detach().clone()
        for name, value in before.predictors[0].model.named_parameters()
    }
    adapted, [report] = adapt(before, find_videos(clips, 11))
    assert report.adapter == "tent"
    # Kept, or put back where classes would be lost.
    changed = [
        name
        for name, value in adapted.predictors[0].model.named_parameters()
        if not torch.equal(value, scales[name])
    ]
    assert bool(changed) == bool(report.layers)


def run(*argv: Any) -> int:
    return program.main(["predict", *map(str, argv)])


def test_the_command_says_what_it_adapted(
    models: list[Path], clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clips / "broken.mp4").write_bytes(b"no video\n" * 50)
    found = {}
    for adapter in ("none", "batchnorm"):
        out = tmp_path / f"{adapter}.json"
        argv = (clips, "--model", models[0], "--adapt", adapter, "--json", out)
        # One video cannot be read, and the others teach.
        assert run(*argv) == 3
        found[adapter] = json.loads(out.read_text())
        said = "seed1: batchnorm: " in capsys.readouterr().err
        assert said == (adapter == "batchnorm")
    plain, adapted = found["none"], found["batchnorm"]
    [model] = adapted["about"]["models"]
    assert model["adapter"] == "batchnorm"
    assert model["adapted_on"] == NUM_VIDEOS
    assert "adapter" not in plain["about"]["models"][0]
    assert len(adapted["videos"]) == NUM_VIDEOS + 1
    assert plain["videos"] != adapted["videos"]


def test_what_has_no_end_or_no_whole_is_refused(
    models: list[Path], clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in (("--watch", clips), (clips, "--out", tmp_path / "o")):
        for adapter in ("tent", "infomax"):
            with pytest.raises(SystemExit):
                run(*more, "--model", models[0], "--adapt", adapter)
            assert "--adapt needs all videos at once" in capsys.readouterr().err


def test_infomax_is_repeatable_and_wants_a_clip_of_each_class(
    models: list[Path],
    data: Path,
    clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Give the same answers with any number of decoding processes."""
    argv = ("--model", models[0], "--adapt", "infomax")
    assert run(clips, *argv) == 2
    error = capsys.readouterr().err
    assert f"infomax: {NUM_VIDEOS} dark clips cannot show 11 classes" in error
    assert "or use another adapter (--adapt takes batchnorm, tent, infomax, online, none)" in error
    assert not CONFIG_KEY.search(error)
    for number, path in enumerate(sorted((data / "dark_train/Train").glob("*/*.mp4"))):
        shutil.copy(path, clips / f"{NUM_VIDEOS + number}.mp4")
    found = []
    for workers in (0, 2):
        out = tmp_path / f"{workers}.json"
        assert run(clips, *argv, "--workers", workers, "--json", out) == 0
        found.append(json.loads(out.read_text())["videos"])
    assert len(found[0]) >= 11
    assert found[0] == found[1]
    assert "infomax: " in capsys.readouterr().err


@pytest.mark.parametrize("adapter", ["batchnorm", "tent", "infomax"])
def test_faults_name_what_the_command_takes_and_no_key(models: list[Path], adapter: str) -> None:
    (predictor,) = build(models[:1], adapter).predictors
    with pytest.raises(UserError, match=r"Linear has no .* \(--adapt takes ") as raised:
        predictor.adapter.run(nn.Linear(2, 2), [])
    with pytest.raises(UserError, match=r"no dark clip .* \(--adapt takes ") as empty:
        predictor.adapter.run(nn.Sequential(nn.BatchNorm1d(2)), [])
    for one in (raised, empty):
        assert not CONFIG_KEY.search(str(one.value))
        assert "allow_no_batchnorm" not in str(one.value)


def test_steps_do_not_take_one_class_after_another(models: list[Path], clips: Path) -> None:
    """Statistics are read in the order of the list, steps are taken in one that is drawn."""
    items = find_videos(clips, 11)
    seen: dict[str, list[torch.Tensor]] = {}
    for adapter in ("batchnorm", "tent"):
        ensemble = build(models[:1], adapter)
        taken = seen.setdefault(adapter, [])

        class Recorder:
            changes_weights = adapter == "tent"

            def run(self, model: Any, batches: Any, taken: Any = taken) -> AdaptReport:
                for _ in range(2):
                    taken.append(torch.cat(list(batches)))
                return AdaptReport("recorder")

        [predictor] = ensemble.predictors
        adapt(replace(ensemble, predictors=[replace(predictor, adapter=Recorder())]), items)
    in_list = torch.cat(list(build(models[:1], "none").predictors[0].clips(items)))
    assert torch.equal(seen["batchnorm"][0], in_list)
    drawn, again = seen["tent"]
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, in_list)
    assert torch.equal(drawn.flatten(1).sum(1).sort()[0], in_list.flatten(1).sum(1).sort()[0])
