"""A mapping of bounded size: the least recently used entries go."""

from __future__ import annotations

import pickle
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrawler.utils.lru import LruMapping


def test_the_least_recently_used_goes() -> None:
    kept: LruMapping[str, int] = LruMapping(3)
    for number, key in enumerate("abc"):
        kept.put(key, number)
    assert kept.get("a") == 0
    kept.put("d", 3)
    assert list(kept) == ["c", "a", "d"]
    assert kept.get("b") is None
    kept.put("c", 4, size=3)
    assert list(kept) == ["c"]
    kept.drop("c")
    kept.drop("never there")
    assert len(kept) == 0


def test_a_value_larger_than_the_bound_is_not_kept_and_replaces_the_one_before() -> None:
    kept: LruMapping[str, int] = LruMapping(3)
    kept.put("a", 1)
    kept.put("b", 2)
    kept.put("a", 3, size=4)
    assert list(kept) == ["b"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), max_size=50))
def test_the_bound_holds(puts: list[tuple[int, int]]) -> None:
    kept: LruMapping[int, int] = LruMapping(10)
    for key, size in puts:
        kept.put(key, size, size=size)
        assert sum(kept.get(one) or 0 for one in list(kept)) <= 10
        assert kept.get(key) == size


def test_it_travels_to_a_spawned_process() -> None:
    kept: LruMapping[str, int] = LruMapping(3)
    kept.put("a", 1)
    copy = pickle.loads(pickle.dumps(kept))  # our own bytes
    assert copy.get("a") == 1


@pytest.mark.parametrize("num_threads", [8])
def test_threads_do_not_lose_count(num_threads: int) -> None:
    kept: LruMapping[int, int] = LruMapping(50)

    def work(first: int) -> None:
        for number in range(2000):
            kept.put((first + number) % 97, number, size=number % 7)
            kept.get(number % 97)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(num_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key in list(kept):
        kept.drop(key)
    assert kept._used == 0
