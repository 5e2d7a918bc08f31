"""Models that compare videos with sentences, in folders of the library transformers.

The library itself loads the weights, and its forward pass is what runs. Of a folder, only settings
and safetensors are read: no code and no pickle in it is ever run.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nightcrawler.download.hub_folder import obtain_folder
from nightcrawler.models.hub_video import (
    check_library,
    check_weights,
    library_errors,
    read_model_type,
)
from nightcrawler.utils.errors import UserError

# `model_type` of the folders that are read, with what people call them.
FAMILIES = {"xclip": "X-CLIP", "clip": "CLIP", "siglip": "SigLIP and SigLIP 2"}
# Compares whole videos. The others compare pictures, one by one.
OF_VIDEOS = "xclip"
# NaFlex: each picture has as many patches as its shape gives. Those of a fixed size are `siglip`.
OF_ANY_SHAPE = "siglip2"
# Trained on sentences that are all filled up to one length, which no mask marks.
FILLED_UP = "siglip"
# Frames of a video that models of pictures are shown.
PICTURES = 8
# Files of which a tokenizer has one with its words, and others that it may have.
WORDS = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")
# Letters of a sentence that an error shows.
SHOWN = 60
TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json", "merges.txt")


# Returns K sentences as the model's arguments, int64 `[K, L]` each.
Tokenize = Callable[[Sequence[str]], dict[str, Tensor]]


class OpenVocabulary(nn.Module):
    """Compare clips with sentences.

    Args:
        model: of the library, one of `FAMILIES`.
        tokenize: turns sentences into arguments of the model.
        sentences: K sentences.
        of_videos: the model takes videos. Otherwise the logits of the frames are averaged.
    """

    def __init__(
        self, model: nn.Module, tokenize: Tokenize, sentences: Sequence[str], of_videos: bool
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenize = tokenize
        self.of_videos = of_videos
        tokens = tokenize(sentences)
        self._arguments = list(tokens)
        # Buffers, so that they go to the model's device.
        for name, values in tokens.items():
            self.register_buffer(name, values, persistent=False)

    def reworded(self, sentences: Sequence[str]) -> OpenVocabulary:
        """Return this model with other sentences. Both share their weights.

        Raises:
            UserError: if a sentence is longer than the model reads.
        """
        device = next(self.model.parameters()).device
        other = OpenVocabulary(self.model, self.tokenize, sentences, self.of_videos)
        return other.to(device).eval()

    def forward(self, clip: Tensor) -> Tensor:
        """Return the similarity of clips `[B, 3, T, H, W]` to the sentences, logits `[B, K]`."""
        tokens = {name: getattr(self, name) for name in self._arguments}
        # The library has time before channels.
        frames = clip.transpose(1, 2)
        if self.of_videos:
            found: Tensor = self.model(pixel_values=frames, **tokens).logits_per_video
            return found
        # The mean of the logits is that of the similarities, as all have one scale and one bias.
        pictures = self.model(pixel_values=frames.flatten(0, 1), **tokens).logits_per_image
        return pictures.unflatten(0, frames.shape[:2]).mean(dim=1)


@dataclass(frozen=True)
class TextModel:
    """A model of a folder, with what its clips are made by.

    Attributes:
        model: clips `[B, 3, T, H, W]` to logits `[B, K]`, in evaluation mode.
        num_frames: T.
        prepare: frames uint8 `[T, H, W, 3]` to float32 `[3, T, h, w]`, by the folder's processor.
        folder: of the model.
    """

    model: OpenVocabulary
    num_frames: int
    prepare: Callable[[np.ndarray], Tensor]
    folder: Path


def open_vocabulary(name: str, sentences: Sequence[str]) -> TextModel:
    """Build a model that compares videos with sentences.

    Args:
        name: a folder, or `OWNER/NAME` or `OWNER/NAME@REVISION` of the hub, downloaded if missing.
        sentences: one for each of the K classes.

    Raises:
        UserError: if the folder cannot be had or read, its weights do not fill the model, or a
            sentence is longer than the model reads.

    Example:
        >>> found = open_vocabulary("weights/clip", ["a person who falls", "a person who walks"])
        >>> found.model(torch.zeros(1, 3, found.num_frames, 224, 224)).shape
        torch.Size([1, 2])
    """
    check_library(name)
    import transformers

    folder = obtain_folder(name, TOKENIZER_FILES, WORDS)
    kind = read_model_type(folder)
    if kind == OF_ANY_SHAPE:
        raise UserError(
            f"{folder}: a SigLIP 2 whose pictures keep their shape (NaFlex), which is not read: "
            "take one of a fixed size, such as google/siglip2-base-patch16-224"
        )
    if kind not in FAMILIES:
        raise UserError(
            f"{folder}: model_type {kind!r} does not compare videos with words, as far as is "
            f"known: expected one of {', '.join(FAMILIES)}"
        )
    if not check_weights(folder):
        raise UserError(f"{folder}: no model.safetensors in it: get the weights of the model, too")
    if not any((folder / file).is_file() for file in WORDS):
        # The library would take every word for an unknown one.
        raise UserError(f"{folder}: no tokenizer in it, expected one of {', '.join(WORDS)}")
    model = _load(folder, transformers)
    tokenize = _tokenizer(folder, kind, model.config, transformers)
    # Videos have as many frames as in training: positions in time are learned.
    num_frames = model.config.vision_config.num_frames if kind == OF_VIDEOS else PICTURES
    whole = OpenVocabulary(model, tokenize, sentences, kind == OF_VIDEOS).eval()
    return TextModel(whole, num_frames, _preparation(folder, transformers), folder)


def _load(folder: Path, transformers: Any) -> Any:
    """Return the library's model, filled from the folder, in float32."""
    with library_errors(folder):
        model, report = transformers.AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    # The library only warns of these, and fills them with random numbers.
    lost = sorted({*report["missing_keys"], *(row[0] for row in report["mismatched_keys"])})
    if lost:
        raise UserError(
            f"{folder}: its weights do not fill the model: {len(lost)} entries, first {lost[0]}"
        )
    return model


def _tokenizer(folder: Path, kind: str, config: Any, transformers: Any) -> Tokenize:
    """Return the folder's own tokenizer."""
    longest = config.text_config.max_position_embeddings
    padding = {"padding": "max_length", "max_length": longest} if kind == FILLED_UP else {}
    # A mask would hide what the model was trained to see.
    names = ("input_ids",) if kind == FILLED_UP else ("input_ids", "attention_mask")
    with library_errors(folder):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )

    def tokenize(sentences: Sequence[str]) -> dict[str, Tensor]:
        with library_errors(folder):
            found = tokenizer(list(sentences), return_tensors="pt", **{"padding": True, **padding})
        if found["input_ids"].shape[1] > longest:
            # Cutting it would compare the video with something else.
            lengths = [len(tokenizer(text)["input_ids"]) for text in sentences]
            place = int(np.argmax(lengths))
            shown = textwrap.shorten(sentences[place], SHOWN)
            raise UserError(
                f"'{shown}': {lengths[place]} tokens, and the model reads {longest}: say it in "
                "fewer words"
            )
        return {name: found[name] for name in names}

    return tokenize


def _preparation(folder: Path, transformers: Any) -> Callable[[np.ndarray], Tensor]:
    """Return the preprocessing of the folder's own processor."""
    with library_errors(folder):
        processor = transformers.AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )

    def prepare(frames: np.ndarray) -> Tensor:
        found = processor(list(frames), return_tensors="pt")["pixel_values"]
        # X-CLIP's processor takes a list of pictures for one video.
        pictures: Tensor = found.flatten(0, -4)
        return pictures.transpose(0, 1).contiguous()

    return prepare
