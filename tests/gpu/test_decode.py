"""Decoding on a GPU by torchcodec: how far its frames are from ours. Nothing in the project uses it yet."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nightcrawler.data.video.decode import FileReader, read_frames

LAST = 8


def test_frames_of_the_gpus_decoder_are_ours_to_a_few_levels(data: Path, cuda: str) -> None:
    decoders = pytest.importorskip("torchcodec.decoders", reason="needs the extra `torchcodec`")
    path = sorted((data / "Test").rglob("*.mp4"))[0]
    try:
        decoder = decoders.VideoDecoder(str(path), device=cuda)
        found = decoder.get_frames_at(list(range(LAST))).data
    except RuntimeError as error:
        pytest.skip(f"torchcodec has no decoder of this GPU for {path.suffix}: {error}")
    decoded = read_frames(FileReader(), path, lambda num_frames: list(range(LAST)))
    ours = torch.from_numpy(decoded.frames)
    levels = (found.permute(0, 2, 3, 1).cpu().float() - ours.float()).abs()
    assert float(levels.mean()) < 3
