"""RandAugment (Cubuk et al., 2020) of a whole clip: the policy, and its text notation.

All frames get the same operations, and only the box that the crop shows is computed. The policy is
drawn as timm draws it; its operations are in `image_ops` and `geometry`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from nightcrawler.data.augment.image_ops import OPS, OPS_BY_INTERPOLATION
from nightcrawler.data.augment.ops import Op
from nightcrawler.utils.errors import ConfigError

MAX_MAGNITUDE = 10.0
APPLY_PROB = 0.5


@dataclass(frozen=True)
class RandAugment:
    """RandAugment policy, drawn as timm does.

    Attributes:
        magnitude: mean magnitude of the operations, 0 to 10.
        num_ops: operations drawn for a clip (with replacement), each applied with probability 0.5.
        magnitude_std: standard deviation of an operation's magnitude, clipped to [0, 10].
        interpolation: `bilinear` or `bicubic`, of rotation, shear and translation.
    """

    magnitude: float = 9.0
    num_ops: int = 2
    magnitude_std: float = 0.0
    interpolation: str = "bilinear"

    def draw(self, rng: np.random.Generator) -> list[tuple[str, float]]:
        """Draw the applied operations: names, and levels in [0, 1]."""
        drawn = []
        for name in rng.choice(list(OPS), self.num_ops):
            # The magnitude is drawn for skipped operations too: later draws do not depend on it.
            is_applied = rng.random() < APPLY_PROB
            magnitude = rng.normal(self.magnitude, self.magnitude_std)
            if is_applied:
                level = float(np.clip(magnitude, 0.0, MAX_MAGNITUDE)) / MAX_MAGNITUDE
                drawn.append((str(name), level))
        return drawn

    def sample_ops(self, rng: np.random.Generator) -> list[Op]:
        """Draw the ops of one clip, with their parameters."""
        ops = OPS_BY_INTERPOLATION[self.interpolation]
        return [ops[name](level, rng) for name, level in self.draw(rng)]


def parse_rand_augment(text: str, interpolation: str = "bilinear") -> RandAugment:
    """Parse a policy in timm's notation, such as `rand-m7-n4-mstd0.5-inc1`.

    Example:
        >>> parse_rand_augment("rand-m7-n4-mstd0.5-inc1")
        RandAugment(magnitude=7.0, num_ops=4, magnitude_std=0.5, interpolation='bilinear')

    Args:
        text: `rand` followed by m (magnitude), n (operations), mstd (standard deviation) and inc1
            (the increasing set, the only one) with their numbers, in any order.
        interpolation: `bilinear` or `bicubic`.

    Raises:
        ConfigError: if `text` is no such policy.
    """
    head, *parts = text.split("-")
    values: dict[str, float] = {}
    for part in parts:
        match = re.fullmatch(r"(mstd|m|n(?!.*\.)|inc)(\d+(?:\.\d+)?)", part)
        if match is None:
            raise ConfigError(
                f"rand_augment '{text}': '{part}' is not m, n, mstd or inc1 with a number"
            )
        if match[1] in values:
            raise ConfigError(f"rand_augment '{text}': '{match[1]}' is given twice")
        values[match[1]] = float(match[2])
    if head != "rand" or values.get("inc", 1) != 1:
        raise ConfigError(
            f"rand_augment '{text}': expected a policy such as rand-m7-n4-mstd0.5-inc1"
        )
    return RandAugment(
        magnitude=values.get("m", 9.0),
        num_ops=int(values.get("n", 2)),
        magnitude_std=values.get("mstd", 0.0),
        interpolation=interpolation,
    )
