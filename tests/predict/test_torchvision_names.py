"""Prediction by torchvision's names: its own answers, on weights drawn at random, from a server of this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

import nightcrawler
from nightcrawler.cli import main as program
from nightcrawler.models import zoo
from nightcrawler.models.external import TORCHVISION, torchvision_video
from nightcrawler.models.formats import WeightsFile
from nightcrawler.models.zoo_families import family_entry, family_names
from nightcrawler.models.zoo_table import ZooEntry
from nightcrawler.predict.checkpoints import PredictOptions, build_trained_config
from nightcrawler.predict.published import complete
from nightcrawler.predict.trust import TRUST
from tests.conftest import MakeClip
from tests.download.names import allow_downloads
from tests.download.server import Site, serving

# Clips that the models take and that a test can afford; MViT is built for one size.
SMALL = {"mvit": (16, 224), "s3d": (16, 64)}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server in the place of torchvision's, and an empty cache."""
    allow_downloads(tmp_path / "cache", monkeypatch)
    monkeypatch.chdir(tmp_path)
    with serving() as found:
        yield found


def model_of(name: str) -> nn.Module:
    """torchvision's own model with weights of its own in every entry."""
    torch.manual_seed(5)
    model = get_model(name, weights=None).eval()
    for key, value in model.state_dict().items():
        # Statistics as of a trained model: those of a new one would hide an exchange.
        if key.endswith("running_mean"):
            value.normal_()
        elif key.endswith("running_var"):
            value.uniform_(0.5, 2.0)
    return model


@pytest.fixture(autouse=True)
def quick_init(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any values will do: those of a truncated normal distribution take half a minute."""
    monkeypatch.setattr(
        nn.init, "trunc_normal_", lambda tensor, **options: tensor.data.normal_(0, 0.02)
    )


def serve(site: Site, name: str, model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> ZooEntry:
    """Serve a model's weights in the place of those of torchvision's name."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    content = buffer.getvalue()
    entry = family_entry(name)
    path = f"/{Path(entry.file).name}"
    site.files[path] = content
    served = dataclasses.replace(
        entry,
        address=f"{site.address}{path}",
        sha256=hashlib.sha256(content).hexdigest()[:8],
    )
    monkeypatch.setattr(zoo, "family_entry", lambda wanted: served)
    return served


def test_every_video_model_of_torchvision_has_a_name() -> None:
    models = {name.split("/")[1] for name in family_names()}
    assert models == set(TORCHVISION)
    assert len(family_names()) == 10
    for name in family_names():
        entry = family_entry(name)
        assert re.fullmatch("[0-9a-f]{8}", entry.sha256)
        assert entry.classes == 400
        assert entry.labels == "label-free"


@pytest.mark.parametrize("name", family_names())
def test_the_settings_are_those_of_torchvision(name: str) -> None:
    file = complete(WeightsFile(Path("x.pth"), "", None, {}), name)
    cfg = build_trained_config(file, PredictOptions())
    weights = get_model_weights(name.split("/")[1])
    chosen = weights[name.split("/")[2]] if name.count("/") == 2 else weights.DEFAULT
    transforms = chosen.transforms()
    assert file.class_names == tuple(chosen.meta["categories"])
    assert chosen.meta["categories"] == cfg.MODEL.CLASS_NAMES
    assert transforms.crop_size == [cfg.DATA.TEST_CROP_SIZE] * 2
    assert transforms.resize_size == cfg.DATA.TEST_RESIZE
    assert transforms.mean == cfg.DATA.MEAN
    assert transforms.std == cfg.DATA.STD
    # In words, in its documentation of the weights.
    said = dict(re.findall(r"(\w+)=([\d.]+)", chosen.meta["_docs"]))
    assert int(said["clip_len"]) == cfg.DATA.NUM_FRAMES
    assert float(said["frame_rate"]) == 30 / cfg.DATA.SAMPLING_RATE
    assert [int(said["clips_per_video"])] == cfg.TEST.NUM_ENSEMBLE_VIEWS
    assert cfg.ENHANCE.TEST == "gamma"


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_logits_are_those_of_torchvision(name: str) -> None:
    theirs = model_of(name)
    num_frames, size = SMALL.get(name.split("_")[0], (8, 64))
    ours = torchvision_video(name, num_classes=400, num_frames=num_frames, crop_size=size).eval()
    ours.load_state_dict(theirs.state_dict())
    clip = torch.randn(1, 3, num_frames, size, size, generator=torch.Generator().manual_seed(1))
    if name == "s3d":
        # Its own pooling has no place on smaller clips.
        theirs.avgpool = ours.get_submodule("avgpool")
    with torch.inference_mode():
        assert torch.equal(ours(clip), theirs(clip))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r3d_18", "mvit_v2_s"])
def test_predict_answers_as_torchvision_does_on_the_same_pixels(
    site: Site, name: str, make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = model_of(name)
    serve(site, f"torchvision/{name}", theirs, monkeypatch)
    clip = make_clip(tmp_path / "night.mp4", 40, (160, 120))
    predictor = nightcrawler.load(f"torchvision/{name}", device="cpu", views=1, crops=1)
    seen: list[Tensor] = []
    predictor.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    [result] = predictor.predict(clip)
    [pixels] = seen
    with torch.inference_mode():
        expected = theirs(pixels)[0].double().numpy()
    assert np.array_equal(np.array(result.logits), expected)
    [request] = site.requests
    assert request[1].endswith(".pth")


def test_the_command_answers_in_400_classes_lit(
    site: Site,
    make_clip: MakeClip,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "torchvision/mc3_18"
    entry = serve(site, name, model_of("mc3_18"), monkeypatch)
    clip = make_clip(tmp_path / "night.mp4", 40, (160, 120))
    out = tmp_path / "out"
    argv = ["predict", str(clip), "--model", name, "--views", "1", "--crops", "1"]
    assert program.main([*argv, "--json", f"{out}.json", "--csv", f"{out}.csv"]) == 0
    shown = capsys.readouterr()
    # torchvision publishes the hash, so nothing is trusted.
    assert "trusted" not in shown.err
    found = json.loads(Path(f"{out}.json").read_text())
    classes = get_model_weights("mc3_18").DEFAULT.meta["categories"]
    assert found["about"]["class_names"] == classes
    [model] = found["about"]["models"]
    assert model["enhancement"] == "gamma"
    assert model["labels"] == "label-free"
    assert model["checkpoint_sha256"].startswith(entry.sha256)
    assert found["videos"][0]["status"] in TRUST
    header, row = Path(f"{out}.csv").read_text().splitlines()
    first = row.split(",")[header.split(",").index("class_1")]
    assert first in classes
    assert first in shown.out
