"""Camera ranges from a YAML file."""

from __future__ import annotations

from pathlib import Path

from nightcrawler.config.yaml import YamlFile, read_yaml
from nightcrawler.data.lowlight.camera import CameraRanges
from nightcrawler.utils.errors import ConfigError

# Keys of a file of camera ranges, and the least value of each.
KEYS = {"MEAN": 0.01, "ELECTRONS": 0.01, "READ_NOISE": 0.0, "CAST": 0.0, "SMOOTHING": 0.0}
# Wider than any lens: a filter of thousands of pixels would take minutes a clip.
MOST_SMOOTHING = 10.0
# Those that are numbers, not ranges, and the one that may be left out.
NUMBERS = ("CAST", "SMOOTHING")
OPTIONAL = "SMOOTHING"


def read_camera_ranges(path: Path) -> CameraRanges:
    """Read camera ranges from a YAML file.

    The file holds `MEAN`, `ELECTRONS` and `READ_NOISE`, each `[least, most]`, and the numbers
    `CAST` and, if it is not 0, `SMOOTHING`. See `CameraRanges` for their units.

    Args:
        path: the file.

    Raises:
        ConfigError: if a key is missing, unknown or has another value, with file, line and key.
    """
    file = read_yaml(path)
    for key in (*file.values, *KEYS):
        if key not in KEYS or (key not in file.values and key != OPTIONAL):
            raise ConfigError(
                f"{file.at(key)}: {key}: expected {', '.join(KEYS)}, and nothing else ({OPTIONAL} "
                "may be left out)"
            )
    cast, _ = _read_range(file, "CAST")
    smoothing = _read_range(file, OPTIONAL)[0] if OPTIONAL in file.values else 0.0
    if smoothing > MOST_SMOOTHING:
        raise ConfigError(
            f"{file.at(OPTIONAL)}: {OPTIONAL}: {smoothing:g} pixels, expected at most "
            f"{MOST_SMOOTHING:g}"
        )
    return CameraRanges(
        mean=_read_range(file, "MEAN"),
        electrons=_read_range(file, "ELECTRONS"),
        read_noise=_read_range(file, "READ_NOISE"),
        cast=cast,
        smoothing=smoothing,
    )


def _read_range(file: YamlFile, key: str) -> tuple[float, float]:
    """Return the two ends of a range, equal for a single number."""
    value = file.values[key]
    found = value if isinstance(value, list) and key not in NUMBERS else [value, value]
    if (
        len(found) != 2
        # A bool is an int, but no number here.
        or not all(type(end) in (int, float) for end in found)
        or not KEYS[key] <= found[0] <= found[1]
    ):
        expected = "a number" if key in NUMBERS else "[least, most]"
        raise ConfigError(
            f"{file.at(key)}: {key}: {value!r}, expected {expected} from {KEYS[key]:g}"
        )
    return float(found[0]), float(found[1])
