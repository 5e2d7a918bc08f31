"""Video models in folders of transformers: the library's own logits, and nothing lost on the way."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from nightcrawler.config.node import get_cfg
from nightcrawler.models.build import build_model, create_model
from nightcrawler.models.hub_preprocessing import read_preprocessing
from nightcrawler.models.hub_video import FAMILIES, hub_video
from nightcrawler.models.pretrained import is_head, load_pretrained
from nightcrawler.utils.errors import UserError
from tests.models.tiny_hub import (
    FRAMES,
    NORMS,
    NUM_LABELS,
    PLAIN_NORM,
    SETTINGS,
    clip_of,
    overrides,
    save_folder,
    side_of,
)

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("folders")
    return {family: save_folder(family, root / family) for family in SETTINGS}


def library_model(folder: Path) -> nn.Module:
    return transformers.AutoModelForVideoClassification.from_pretrained(
        folder, local_files_only=True, dtype=torch.float32
    ).eval()


def from_config(family: str, folder: Path, *more: Any) -> nn.Module:
    cfg = get_cfg()
    cfg.merge_from_list([*overrides(family, folder), "MODEL.NUM_CLASSES", NUM_LABELS, *more])
    torch.manual_seed(0)
    return build_model(cfg)


def rewrite(folder: Path, change: Any) -> None:
    """Change the entries of a folder's weights."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


# --- the library's own answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", SETTINGS)
def test_logits_are_those_of_the_library_bit_for_bit(family: str, folders: dict[str, Path]) -> None:
    model = from_config(family, folders[family]).eval()
    clip = clip_of(family)
    with torch.no_grad():
        expected = library_model(folders[family])(clip.transpose(1, 2)).logits
        logits = model(clip)
    assert logits.shape == (2, NUM_LABELS)
    assert (logits - expected.reshape(2, NUM_LABELS)).abs().max() == 0.0
    assert logits.std() > 0


@pytest.mark.parametrize("family", SETTINGS)
def test_every_parameter_has_a_gradient_so_that_nothing_is_searched(
    family: str, folders: dict[str, Path]
) -> None:
    model = from_config(family, folders[family], "MODEL.NUM_CLASSES", 5)
    assert model.training
    logits = model(clip_of(family))
    nn.functional.cross_entropy(logits, torch.tensor([1, 4])).backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []
    assert not getattr(model, "has_unused_parameters", False)
    assert not any("predictor" in name for name, _ in model.named_modules() if name)


@pytest.mark.parametrize("family", SETTINGS)
def test_a_classifier_of_other_classes_is_new_and_the_backbone_is_the_folders(
    family: str, folders: dict[str, Path]
) -> None:
    model = from_config(family, folders[family], "MODEL.NUM_CLASSES", 5)
    theirs = dict(library_model(folders[family]).named_parameters())
    for name, value in model.named_parameters():
        plain = name.removeprefix("model.")
        if plain.startswith("classifier."):
            assert len(value) == 5
            assert is_head(plain)
        else:
            assert torch.equal(value, theirs[plain]), name
    again = from_config(family, folders[family], "MODEL.NUM_CLASSES", 5)
    for name, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


@pytest.mark.parametrize("family", SETTINGS)
def test_recomputed_activations_give_the_same_gradients(
    family: str, folders: dict[str, Path]
) -> None:
    grads = []
    for recompute in (False, True):
        model = from_config(family, folders[family], "MODEL.USE_CHECKPOINT", recompute)
        model(clip_of(family)).square().sum().backward()
        grads.append({name: value.grad for name, value in model.named_parameters()})
    for name, value in grads[0].items():
        torch.testing.assert_close(grads[1][name], value, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("family", SETTINGS)
def test_preprocessing_is_what_the_folders_processor_does(
    family: str, folders: dict[str, Path]
) -> None:
    found = read_preprocessing(folders[family], FRAMES)
    mean, std = NORMS.get(family, PLAIN_NORM)
    assert found.mean == pytest.approx(mean, abs=1e-5)
    assert found.std == pytest.approx(std, abs=1e-5)
    assert found.size == side_of(family)


def test_weights_of_half_precision_are_loaded_as_float32(tmp_path: Path) -> None:
    folder = save_folder("vivit", tmp_path / "half", dtype="bfloat16")
    rewrite(folder, lambda state: {name: value.bfloat16() for name, value in state.items()})
    assert {value.dtype for value in hub_video(str(folder), num_classes=5).parameters()} == {
        torch.float32
    }


def test_dropout_is_before_the_classifier(folders: dict[str, Path]) -> None:
    model = from_config("vivit", folders["vivit"], "MODEL.DROPOUT_RATE", 1.0)
    logits = model(clip_of("vivit"))
    assert torch.equal(logits, model.model.classifier.bias.expand_as(logits))
    assert not torch.equal(model.eval()(clip_of("vivit")), logits)


@pytest.mark.parametrize("family", ["vjepa2", "timesformer"])
def test_stochastic_depth_drops_blocks_in_training(family: str, folders: dict[str, Path]) -> None:
    model = from_config(family, folders[family], "MODEL.DROP_PATH_RATE", 0.5)
    clip = clip_of(family, batch=8)
    assert not torch.equal(model(clip), model(clip))
    assert torch.equal(model.eval()(clip), model(clip))


def test_vjepa2_takes_any_number_of_whole_tubes(folders: dict[str, Path]) -> None:
    model = from_config("vjepa2", folders["vjepa2"], "DATA.NUM_FRAMES", 8)
    assert model(torch.randn(1, 3, 8, 32, 32)).shape == (1, NUM_LABELS)
    with pytest.raises(UserError, match=r"num_frames 5 is not 4 .*\(DATA.NUM_FRAMES\)"):
        from_config("vjepa2", folders["vjepa2"], "DATA.NUM_FRAMES", 5)


def test_create_model_takes_a_folder(folders: dict[str, Path]) -> None:
    model = create_model(f"transformers/{folders['vivit']}", num_classes=3, dropout=0.1)
    assert model(clip_of("vivit")).shape == (2, 3)


# --- what is refused --------------------------------------------------------------------------------------------


def test_clips_of_another_kind_name_every_key(folders: dict[str, Path]) -> None:
    with pytest.raises(UserError) as caught:
        from_config(
            "videomae",
            folders["videomae"],
            *("DATA.NUM_FRAMES", 8, "DATA.TRAIN_CROP_SIZE", 64, "DATA.MEAN", "[0.4, 0.5, 0.5]"),
        )
    text = str(caught.value)
    assert "num_frames 8 is not 4" in text
    assert "crop_size 64 is not 32" in text
    assert text.endswith("(DATA.NUM_FRAMES, DATA.TRAIN_CROP_SIZE, DATA.MEAN)")
    assert len(text.splitlines()) == 1


def test_biases_of_queries_and_values_are_taken_and_never_lost(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    # Files of VideoMAE name them q_bias and v_bias; layers of the library have others.
    file = folders["videomae"] / "model.safetensors"
    loaded = hub_video(str(folders["videomae"]), num_classes=NUM_LABELS).state_dict()
    biases = {name: value for name, value in load_file(file).items() if "_bias" in name}
    assert len(biases) == 4
    for name, value in biases.items():
        ours = name.replace("q_bias", "query.bias").replace("v_bias", "value.bias")
        assert torch.equal(loaded[f"model.{ours}"], value), name
        assert value.abs().min() > 0
    # The general loader knows nothing of these names.
    model = from_config("videomae", folders["videomae"])
    with pytest.raises(UserError, match="entries would be lost, first"):
        load_pretrained(model, file, min_match=0.5)


def lose_biases(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace("q_bias", "query_bias"): value for name, value in state.items()}


def rename_keys(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace("key.weight", "k_weight"): value for name, value in state.items()}


def drop_norm(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if "layernorm_before.bias" not in name}


def add_bias(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    name = "videomae.encoder.layer.0.attention.attention.key.k_bias"
    return {**state, name: torch.ones(24)}


def cut_norm(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    name = next(name for name in state if name.endswith("layernorm_before.bias"))
    return {**state, name: state[name][:7].clone()}


def half_a_head(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if name != "fc_norm.bias"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lose_biases, "query.bias is missing"),
        (rename_keys, "key.weight is missing"),
        (drop_norm, "layernorm_before.bias is missing"),
        (add_bias, "key.k_bias has no place in the model"),
        (cut_norm, r"layernorm_before.bias is \[7\], the model has \[24\]"),
        (half_a_head, "fc_norm.bias is missing"),
    ],
)
def test_weights_that_the_library_would_lose_with_a_warning_are_refused(
    tmp_path: Path, change: Any, said: str
) -> None:
    folder = save_folder("videomae", tmp_path / "folder")
    rewrite(folder, change)
    with pytest.raises(UserError, match=said) as caught:
        hub_video(str(folder), num_classes=5)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("family", "kind"), [("videomae", "VideoMAEForPreTraining"), ("vjepa2", "VJEPA2Model")]
)
def test_a_folder_of_pretraining_gets_a_new_head_and_loses_its_decoder(
    tmp_path: Path, family: str, kind: str
) -> None:
    config_kind, values = SETTINGS[family]
    settings = {**values, "decoder_hidden_size": 12, "decoder_num_attention_heads": 2}
    if family == "vjepa2":
        settings = values
    config = getattr(transformers, config_kind)(**settings)
    pretrained = getattr(transformers, kind)(config)
    pretrained.save_pretrained(tmp_path / family)
    model = hub_video(str(tmp_path / family), num_classes=5)
    state = pretrained.state_dict()
    backbone = [name for name in model.state_dict() if f".{family}." in name]
    assert len(backbone) > 20
    for name in backbone:
        theirs = name.removeprefix("model.")
        if theirs not in state:
            theirs = theirs.removeprefix(f"{family}.")
        assert torch.equal(model.state_dict()[name], state[theirs]), name
    assert model(clip_of(family)).shape == (2, 5)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    folder = save_folder("vivit", tmp_path / "folder")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model.bin, a pickle, which may run code"):
        hub_video(str(folder), num_classes=5)


@pytest.mark.parametrize("kind", ["videomae", "OpenVideoMAE"])
def test_code_in_a_folder_is_never_run(tmp_path: Path, kind: str) -> None:
    folder = save_folder("videomae", tmp_path / "folder")
    trap = tmp_path / "trap"
    for name in ("configuration_x", "modeling_x"):
        (folder / f"{name}.py").write_text(f"open({str(trap)!r}, 'w')\n")
    settings = json.loads((folder / "config.json").read_text())
    settings["model_type"] = kind
    settings["auto_map"] = {
        "AutoConfig": "configuration_x.XConfig",
        "AutoModelForVideoClassification": "modeling_x.X",
    }
    (folder / "config.json").write_text(json.dumps(settings))
    if kind in FAMILIES:
        assert hub_video(str(folder), num_classes=5) is not None
    else:
        with pytest.raises(UserError, match="model_type 'OpenVideoMAE' is no video classifier"):
            hub_video(str(folder), num_classes=5)
    assert not trap.exists()


def _truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_truncate, "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text("{"), "not readable as JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not readable as JSON"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (
            lambda folder: (folder / "video_preprocessor_config.json").unlink(),
            "its preprocessing cannot be read",
        ),
    ],
)
def test_a_damaged_folder_is_an_error_of_one_line(tmp_path: Path, damage: Any, said: str) -> None:
    folder = save_folder("videomae", tmp_path / "folder")
    damage(folder)
    with pytest.raises(UserError, match=said) as caught:
        from_config("videomae", folder)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("MODEL.MOTION_STEM", True), r"motion_stem True: .*\(MODEL.MOTION_STEM\)"),
        (("MODEL.DROP_PATH_RATE", 0.1), r"no stochastic depth: .*\(MODEL.DROP_PATH_RATE\)"),
    ],
)
def test_what_a_model_cannot_do_is_refused(
    folders: dict[str, Path], more: tuple[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        from_config("vivit", folders["vivit"], *more)


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", "../x/y/z", "a b/c"])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"{name}: no such folder"):
        hub_video(name, num_classes=5)


def test_without_the_library_one_line_names_the_extra(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "transformers.utils", None)
    with pytest.raises(UserError, match=r"pip install 'nightcrawler-video\[hub\]'"):
        hub_video(str(folders["vivit"]), num_classes=5)
