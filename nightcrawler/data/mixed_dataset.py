"""Videos of which a share comes in another form, such as recorded in the dark."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

from nightcrawler.data.batch_sampler import SampleKey
from nightcrawler.data.dataset import ClipDataset, sample_rng
from nightcrawler.utils.env import derived_seed

# Tells the draw of the form from the draws of the clip.
FORM_DRAW = 3


class MixedDataset(Dataset[dict[str, Any]]):
    """Take each sample from one of two datasets of the same videos.

    The choice is a function of the seed, the epoch, the video and its occurrence.

    Args:
        usual: dataset of the usual form.
        other: the same videos in the other form.
        prob: probability of the other form.
    """

    def __init__(self, usual: ClipDataset, other: ClipDataset, prob: float) -> None:
        self.usual = usual
        self.other = other
        self.prob = prob

    def __len__(self) -> int:
        return len(self.usual)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        name = self.usual.items[key.index].name
        seed = derived_seed(self.usual.seed, FORM_DRAW)
        rng = sample_rng(seed, key.epoch, name, key.occurrence)
        if rng.random() < self.prob:
            return self.other[key]
        return self.usual[key]
