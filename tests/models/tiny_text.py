"""Tiny models that compare videos with words, saved as folders with their tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SIDE = 32
VIDEO_FRAMES = 4
MOST_TOKENS = 16
WORDS = ["a", "video", "of", "person", "who", "falls", "walks", "climbs", "fence", "the", "picture"]
_WIDTH = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 48}
_TEXT = {
    **_WIDTH,
    "num_hidden_layers": 2,
    "vocab_size": len(WORDS) + 4,
    "max_position_embeddings": MOST_TOKENS,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
}
_VISION = {**_WIDTH, "num_hidden_layers": 2, "image_size": SIDE, "patch_size": 8}
FAMILIES = ("xclip", "clip", "siglip")


def settings_of(family: str) -> Any:
    import transformers

    if family == "clip":
        return transformers.CLIPConfig(text_config=_TEXT, vision_config=_VISION, projection_dim=16)
    if family == "siglip":
        return transformers.SiglipConfig(text_config=_TEXT, vision_config=_VISION)
    vision = {
        **_VISION,
        "num_frames": VIDEO_FRAMES,
        "mit_hidden_size": 16,
        "mit_intermediate_size": 32,
        "mit_num_hidden_layers": 1,
        "mit_num_attention_heads": 2,
    }
    return transformers.XCLIPConfig(
        text_config=_TEXT,
        vision_config=vision,
        projection_dim=16,
        prompt_layers=1,
        prompt_num_attention_heads=2,
    )


def save_folder(family: str, folder: Path) -> Path:
    """A folder as the library saves it, of random weights."""
    import transformers

    torch.manual_seed(len(family))
    model = transformers.AutoModel.from_config(settings_of(family))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    processor = transformers.CLIPImageProcessor
    if family == "siglip":
        processor = transformers.SiglipImageProcessor
    if family == "xclip":
        processor = transformers.VideoMAEImageProcessor
    size = {"height": SIDE, "width": SIDE} if family == "siglip" else {"shortest_edge": SIDE}
    crop = {} if family == "siglip" else {"crop_size": {"height": SIDE, "width": SIDE}}
    processor(size=size, **crop).save_pretrained(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    """A tokenizer of whole words, which begins and ends sentences as CLIP's does."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = ["[pad]", "[unknown]", "[begin]", "[end]", *WORDS]
    vocabulary = {name: place for place, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[unknown]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[begin] $A [end]", special_tokens=[("[begin]", 2), ("[end]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[pad]",
        unk_token="[unknown]",
        bos_token="[begin]",
        eos_token="[end]",
    ).save_pretrained(folder)
