"""CLAHE against its formula written out, pixel by pixel, and the promises of its clip limit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightcrawler.data.lowlight.enhance.clahe import apply_clahe, equalisation_tables, equalise
from nightcrawler.data.lowlight.enhance.luma import luminance, replace_luminance


def dark_luma(height: int, width: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).exponential(9, (height, width))
    return np.clip(values, 0, 255).astype(np.uint8)


def grey(luma: np.ndarray) -> np.ndarray:
    """One frame `[1, H, W, 3]` of a luminance."""
    return np.repeat(luma[None, ..., None], 3, axis=3)


def clipped_equalisation(values: list[int], clip: Fraction) -> list[Fraction]:
    """Zuiderveld's table in exact numbers: cut each bin at `clip` means, share the rest, add up."""
    num = len(values)
    bins = [Fraction(values.count(level)) for level in range(256)]
    most = clip * num / 256
    excess = sum(max(one - most, Fraction(0)) for one in bins)
    bins = [min(one, most) + excess / 256 for one in bins]
    total, table = Fraction(0), []
    for one in bins:
        total += one
        table.append(255 * total / num)
    return table


@pytest.mark.parametrize("clip", ["1", "2.5", "24", "256"])
def test_one_tile_is_clipped_histogram_equalisation(clip: str) -> None:
    luma = dark_luma(9, 13)
    table = clipped_equalisation(luma.reshape(-1).tolist(), Fraction(clip))
    lit = apply_clahe(grey(luma), clip=float(clip), tiles=(1, 1))
    exact = np.array([[float(table[value]) for value in row] for row in luma])
    assert np.abs(lit - exact[None, ..., None]).max() <= 0.5 + 1e-3


def test_without_a_limit_it_is_histogram_equalisation_by_hand() -> None:
    """Of four pixels 0, 0, 7, 9 the new levels are 255 times 2/4, 3/4, 4/4."""
    lit = equalise(np.array([[0, 0], [7, 9]], np.uint8), 256, (1, 1))
    np.testing.assert_allclose(lit, [[127.5, 127.5], [191.25, 255]], atol=1e-4)


def test_tiles_are_blended_between_their_centres() -> None:
    """Every pixel by a loop: the four nearest tile centres, weighed by distance, none beyond the outermost."""
    height, width, rows, columns, clip = 14, 17, 2, 3, Fraction(20)
    luma = dark_luma(height, width, seed=3)
    tables = {}
    for row in range(rows):
        for column in range(columns):
            inside = [
                int(luma[y, x])
                for y in range(height)
                for x in range(width)
                if (y * rows // height, x * columns // width) == (row, column)
            ]
            tables[row, column] = clipped_equalisation(inside, clip)
    expected = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            at_y = min(max((y + 0.5) / (height / rows) - 0.5, 0), rows - 1)
            at_x = min(max((x + 0.5) / (width / columns) - 0.5, 0), columns - 1)
            for (row, column), table in tables.items():
                weight = max(1 - abs(at_y - row), 0) * max(1 - abs(at_x - column), 0)
                expected[y, x] += weight * float(table[luma[y, x]])
    np.testing.assert_allclose(equalise(luma, 20.0, (rows, columns)), expected, atol=1e-3)


@given(st.floats(1, 256), st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_levels_keep_their_order_and_come_apart_by_no_more_than_the_limit(
    clip: float, seed: int
) -> None:
    counts = np.random.default_rng(seed).integers(0, 50, 256) ** 2
    counts[seed % 256] += 10_000
    (table,) = equalisation_tables(counts[None], clip)
    steps = np.diff(table)
    assert (steps >= 0).all()
    assert steps.max() <= 255 / 256 * (clip + 1) + 1e-3
    assert table[-1] == pytest.approx(255, abs=1e-3)


def test_frames_do_not_depend_on_each_other() -> None:
    frames = np.concatenate([grey(dark_luma(20, 24, seed)) for seed in range(3)])
    lit = apply_clahe(frames, clip=24, tiles=(4, 4))
    for number in range(3):
        assert (
            apply_clahe(frames[number : number + 1], clip=24, tiles=(4, 4))[0] == lit[number]
        ).all()


@pytest.mark.parametrize(
    "color", [(0, 0, 0), (255, 255, 255), (255, 0, 0), (10, 200, 30), (1, 2, 3)]
)
def test_luminance_is_the_weighted_mean(color: tuple[int, int, int]) -> None:
    exact = np.dot(color, (0.299, 0.587, 0.114))
    assert abs(int(luminance(np.array([color], np.uint8))[0]) - exact) <= 1


def test_the_same_luminance_changes_nothing() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    luma = luminance(frame)
    assert (replace_luminance(frame, luma, luma.astype(np.float32)) == frame).all()


@pytest.mark.parametrize(
    ("wanted", "color"), [(40, (80, 20, 40)), (160, (200, 140, 160)), (250, (255, 230, 250))]
)
def test_colour_grows_with_luminance_up_to_four_times(
    wanted: int, color: tuple[int, int, int]
) -> None:
    """A pixel of luma 20 that is 20, -10, 0 off grey: twice as light, twice as far off; ever lighter, four times."""
    pixel = np.array([[[40, 10, 20]]], np.uint8)
    lit = replace_luminance(pixel, np.array([[20]], np.uint8), np.array([[wanted]], np.float32))
    if wanted == 40:
        assert lit[0, 0].tolist() == list(color)
    else:
        assert lit[0, 0].tolist() == [min(wanted + 80, 255), wanted - 40, wanted]
