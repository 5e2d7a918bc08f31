"""Prediction by the names of public weights: stand-ins of their layouts, from a server of this machine."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from fvcore.common.config import CfgNode

import nightcrawler
from nightcrawler.cli import main as program
from nightcrawler.config.load import load_experiment
from nightcrawler.config.schema.model import CLASS_NAMES
from nightcrawler.download.cache import cached_weights
from nightcrawler.models.formats import WeightsFile
from nightcrawler.models.zoo import ZOO
from nightcrawler.predict import published
from nightcrawler.predict.checkpoints import PredictOptions, build_trained_config
from nightcrawler.predict.published import complete
from nightcrawler.predict.trust import TRUST
from nightcrawler.utils.errors import UserError
from tests.conftest import MakeClip
from tests.download.names import allow_downloads, serve_names
from tests.download.server import Site, serving
from tests.models import public_files
from tests.models.public_files import manifest, named, pyslowfast
from tests.paths import ROOT


def alphaction() -> dict[str, Any]:
    """AlphAction's file, with its 700 classes."""
    state = manifest("sf32_k700")
    state["projection.weight"] = torch.zeros(()).expand(700, 2048)
    state["projection.bias"] = torch.zeros(()).expand(700)
    return {"model": named(state, public_files.alphaction)}


# The layout of each public file, as its authors' code writes it.
LAYOUTS = {
    "uniformer_base_k600_32x4": lambda: manifest("sensex_uniformer_b32x4_k600"),
    "uniformer_base_sthv2_32_prek400": lambda: {"model": manifest("sensex_uniformer_b32_sthv2")},
    "uniformer_small_k400_16x4": lambda: manifest("sensex_uniformer_s16x4_k400"),
    "mvit_b_32x3_k600": lambda: pyslowfast(manifest("fb_mvit_b_32x3_conv_k600")),
    "slowfast_r101_8x8_k700": alphaction,
}
TRAINED = {
    "uniformer_b32_k600": lambda: pyslowfast(manifest("uniformer_b32_k600")),
    "uniformer_b32_ssv2": lambda: pyslowfast(manifest("uniformer_b32_ssv2")),
    "mvit_b32_k600": lambda: pyslowfast(manifest("mvit_b32_k600")),
    "sf32_k700": lambda: pyslowfast(manifest("sf32_k700")),
}
LAYOUTS |= {name: TRAINED[name.split("/")[-1]] for name in ZOO if name.startswith("ug2-2022/")}
# The link of this one brings another model's file.
SLIP = "ug2-2022/stage4/sf32_k700"
# One of each layout: the other names have the same models, as a test below compares.
PREDICTED = [
    *(name for name in LAYOUTS if not name.startswith("ug2-2022/")),
    "ug2-2022/stage4/uniformer_b32_k600",
    "ug2-2022/expert/uniformer_b32_ssv2",
    "ug2-2022/stage4/mvit_b32_k600",
    "ug2-2022/stage3/sf32_k700",
]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server with the files of all names, and an empty cache."""
    allow_downloads(tmp_path / "cache", monkeypatch)
    monkeypatch.chdir(tmp_path)
    contents = {}
    for name, make in LAYOUTS.items():
        buffer = io.BytesIO()
        torch.save(make(), buffer)
        contents[name] = buffer.getvalue()
    # Two names share an id, and the authors' page means the first of them.
    shared = contents["ug2-2022/stage4/uniformer_b32_k600"]
    contents[SLIP] = shared
    with serving() as found:
        serve_names(found, contents, monkeypatch)
        yield found


def test_every_name_has_a_layout() -> None:
    assert sorted(LAYOUTS) == sorted(ZOO)


def small_clips(path: Path, overrides: Sequence[str] = (), **options: Any) -> CfgNode:
    """The configuration of a file with clips of a size that a test can afford."""
    size = ["DATA.NUM_FRAMES", "8", "DATA.TRAIN_CROP_SIZE", "64", "DATA.TEST_CROP_SIZE", "64"]
    return load_experiment(path, overrides=[*overrides, *size], **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", PREDICTED)
def test_a_name_is_pulled_checked_loaded_and_predicts(
    site: Site, name: str, make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "load_experiment", small_clips)
    clip = make_clip(tmp_path / "night.mp4", 8)
    out = tmp_path / "out.json"
    argv = [
        "predict",
        str(clip),
        "--model",
        name,
        "--views",
        "1",
        "--crops",
        "1",
        "--json",
        str(out),
    ]
    assert program.main(argv) == 0
    assert cached_weights(ZOO[name].file).is_file()
    found = json.loads(out.read_text())
    [model] = found["about"]["models"]
    assert model["labels"] == ZOO[name].labels
    assert len(found["about"]["class_names"]) == ZOO[name].classes
    if name.startswith("ug2-2022/"):
        assert found["about"]["class_names"] == CLASS_NAMES
    else:
        assert found["about"]["class_names"][1] == "class 1"
    [video] = found["videos"]
    assert video["status"] in TRUST


def test_every_trained_name_has_the_model_of_its_experiment() -> None:
    for name, entry in ZOO.items():
        file = complete(WeightsFile(Path("x.pyth"), "", None, {}), name)
        cfg = build_trained_config(file, PredictOptions())
        expected = load_experiment(ROOT / entry.config)
        assert cfg.MODEL.NAME == expected.MODEL.NAME
        assert entry.classes == cfg.MODEL.NUM_CLASSES
        assert [cfg.UNIFORMER, cfg.MVIT, cfg.SLOWFAST] == [
            expected.UNIFORMER,
            expected.MVIT,
            expected.SLOWFAST,
        ]
        # As they were tested when they were published.
        assert cfg.DATA.COLOR == "published"


def test_the_slip_of_the_authors_page_is_told(site: Site) -> None:
    with pytest.raises(UserError) as caught:
        nightcrawler.load(SLIP)
    text = str(caught.value)
    assert "it looks like a Sense-X UniFormer file" in text
    assert "take ug2-2022/stage4/uniformer_b32_k600" in text
    assert "\n" not in text


def test_a_changed_file_is_refused(site: Site) -> None:
    name = "ug2-2022/adapt_bn/mvit_b32_k600"
    path = cached_weights(ZOO[name].file)
    assert program.main(["weights", "pull", name]) == 0
    path.write_bytes(site.files[f"/drive/{ZOO[SLIP].address.split('/')[-2]}"])
    with pytest.raises(UserError, match="changed since it was downloaded"):
        nightcrawler.load(name)


def test_offline_and_unknown_names_are_one_line(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NIGHTCRAWLER_OFFLINE", "1")
    Path("night.mp4").touch()
    for name, text in {
        "ug2-2022/stage3/sf32_k700": "NIGHTCRAWLER_OFFLINE is set, so nothing is downloaded",
        "hf://me/repo/x.safetensors": "NIGHTCRAWLER_OFFLINE is set, so nothing is downloaded",
        "ug2-2022/stage9/sf32_k700": "`nightcrawler weights list` prints",
        "http://example.org/x": "expected an https:// address",
    }.items():
        assert program.main(["predict", "night.mp4", "--model", name]) == 2
        shown = capsys.readouterr().err
        assert text in shown
        assert shown.count("\n") == 1
    assert site.requests == []
