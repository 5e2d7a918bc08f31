"""Models that compare videos with sentences, against the library's own answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nightcrawler.models.open_vocabulary import PICTURES, open_vocabulary
from nightcrawler.utils.errors import UserError
from tests.models.tiny_text import FAMILIES, SIDE, VIDEO_FRAMES, save_folder

pytest.importorskip("transformers")
SENTENCES = ["a video of a person who falls", "a video of a person who climbs a fence", "walks"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("text_models")
    return {family: save_folder(family, root / family) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_the_librarys(folders: dict[str, Path], family: str) -> None:
    import transformers

    folder = folders[family]
    found = open_vocabulary(str(folder), SENTENCES)
    assert found.num_frames == (VIDEO_FRAMES if family == "xclip" else PICTURES)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (found.num_frames, 40, 60, 3)).astype(np.uint8)
    clip = found.prepare(frames)
    assert clip.shape == (3, found.num_frames, SIDE, SIDE)
    # As the library's pages say how to use each.
    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    if family == "siglip":
        text = tokenizer(SENTENCES, padding="max_length", max_length=16, return_tensors="pt")
        tokens = {"input_ids": text["input_ids"]}
    else:
        tokens = dict(tokenizer(SENTENCES, padding=True, return_tensors="pt"))
    pixels = processor(list(frames), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        output = model(pixel_values=pixels, **tokens)
        if family == "xclip":
            expected = output.logits_per_video
        else:
            expected = output.logits_per_image.mean(dim=0, keepdim=True)
        answer = found.model(clip[None])
    assert answer.shape == (1, 3)
    assert (answer - expected).abs().max() == 0.0
    assert answer.std() > 1e-4


def test_clips_of_a_batch_do_not_mix(folders: dict[str, Path]) -> None:
    for family in FAMILIES:
        found = open_vocabulary(str(folders[family]), SENTENCES)
        clips = torch.randn(3, 3, found.num_frames, SIDE, SIDE)
        with torch.no_grad():
            together = found.model(clips)
            alone = torch.cat([found.model(clip[None]) for clip in clips])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_folders_that_say_nothing_are_refused_in_one_line(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_of(name: str) -> Path:
        return Path(shutil.copytree(folders["clip"], tmp_path / name))

    with pytest.raises(UserError, match=r"'a a .* a': 20 tokens, and the model reads 16"):
        open_vocabulary(str(folders["clip"]), ["a", " ".join(["a"] * 18)])
    other = copy_of("other")
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**settings, "model_type": "videomae"}))
    with pytest.raises(UserError, match="'videomae' does not compare videos with words"):
        open_vocabulary(str(other), SENTENCES)
    (other / "config.json").write_text(json.dumps({**settings, "model_type": "siglip2"}))
    with pytest.raises(
        UserError, match=r"NaFlex.*take one of a fixed size, such as google/siglip2"
    ):
        open_vocabulary(str(other), SENTENCES)
    empty = copy_of("empty")
    (empty / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        open_vocabulary(str(empty), SENTENCES)
    (empty / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match="a pickle, which may run code"):
        open_vocabulary(str(empty), SENTENCES)
    speechless = copy_of("speechless")
    for file in speechless.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UserError, match="speechless: no tokenizer in it"):
        open_vocabulary(str(speechless), SENTENCES)
    deep = copy_of("deep")
    settings["vision_config"]["num_hidden_layers"] = 3
    (deep / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="its weights do not fill the model"):
        open_vocabulary(str(deep), SENTENCES)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(UserError, match=r"nightcrawler-video\[hub\]"):
        open_vocabulary(str(folders["clip"]), SENTENCES)
