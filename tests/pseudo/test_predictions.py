"""The results file and its restricted unpickler."""

from __future__ import annotations

import codecs
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from nightcrawler.pseudo.predictions import (
    Predictions,
    read_content,
    read_results,
    softmax,
)
from nightcrawler.utils.errors import UserError


def some(num_videos: int = 3, num_classes: int = 4) -> Predictions:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(num_videos, num_classes)).astype(np.float32)
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return Predictions(
        logits,
        probs,
        np.arange(num_videos) - 1,
        [f"Walk/Walk_{i}_é.mp4" for i in range(num_videos)],
        np.full(num_videos, 9),
        ["ok"] * num_videos,
        {"split": "arid", "views": 3, "versions": {"torch": "2"}, "class_names": ["a", "b"]},
    )


def test_round_trip(tmp_path: Path) -> None:
    before = some()
    before.save(tmp_path / "r.pkl")
    after = read_results(tmp_path / "r.pkl")
    np.testing.assert_array_equal(after.logits, before.logits)
    np.testing.assert_array_equal(after.probs, before.probs.astype(np.float32))
    assert after.names == before.names
    assert after.meta == before.meta
    assert after.labels.dtype == np.int64
    plain = pickle.loads(
        (tmp_path / "r.pkl").read_bytes()
    )  # our own bytes: any pickle reader sees plain arrays
    assert {type(value) for value in plain.values()} == {np.ndarray, dict}


def test_class_names_are_an_array_of_their_own(tmp_path: Path) -> None:
    before = some()
    before.meta["class_names"] = ["Laufen", "Gähnen"]
    before.save(tmp_path / "r.npz")
    with np.load(tmp_path / "r.npz") as arrays:
        assert arrays["class_names"].tolist() == ["Laufen", "Gähnen"]
    assert read_results(tmp_path / "r.npz").meta["class_names"] == ["Laufen", "Gähnen"]


class Attack:
    """Leaves a trace when it is unpickled by a reader that calls what it is told to."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (os.system, (f"touch {self.trace}",))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_code_in_a_results_file_never_runs(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "ran"
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"video_preds": Attack(trace)}, protocol=protocol))
    with pytest.raises(UserError, match="refused"):
        read_results(path)
    assert not trace.exists()


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_results_of_any_protocol_are_read(tmp_path: Path, protocol: int) -> None:
    some().save(tmp_path / "r.pkl")
    content = read_content(tmp_path / "r.pkl")
    (tmp_path / "old.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_results(tmp_path / "old.pkl")
    np.testing.assert_array_equal(found.probs, some().probs)
    assert found.names == some().names


@pytest.mark.parametrize("arguments", [("x", "utf-8"), (7, "latin1"), ("x", "rot13"), ("x", [])])
def test_only_bytes_are_encoded(tmp_path: Path, arguments: tuple[Any, ...]) -> None:
    class Encode:
        def __reduce__(self) -> tuple[Any, ...]:
            return codecs.encode, arguments

    (tmp_path / "r.pkl").write_bytes(pickle.dumps({"video_preds": Encode()}))
    with pytest.raises(UserError, match=r"r\.pkl: refused: it asks for an encoding"):
        read_results(tmp_path / "r.pkl")


def test_object_arrays_with_code_are_refused(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"video_preds": np.array([Attack(trace)], dtype=object)}))
    with pytest.raises(UserError):
        read_results(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"hello", pickle.dumps([1, 2]), pickle.dumps({"video_preds": 3})]
)
def test_other_files_are_one_line_errors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_results(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["video_preds", "video_probs", "video_labels", "num_clips"])
def test_arrays_of_another_form_are_named(tmp_path: Path, key: str) -> None:
    some().save(tmp_path / "r.pkl")
    content = read_content(tmp_path / "r.pkl")
    (tmp_path / "r.pkl").write_bytes(
        pickle.dumps({**content, key: content[key].dtype.type(1)[...]})
    )
    with pytest.raises(UserError, match=rf"'{key}' is of another form"):
        read_results(tmp_path / "r.pkl")


@pytest.mark.parametrize("form", ["npz", "pkl"])
def test_both_forms_hold_the_same(tmp_path: Path, form: str) -> None:
    some().save(tmp_path / f"r.{form}")
    found = read_results(tmp_path / f"r.{form}")
    for name in ("logits", "probs", "labels", "num_clips"):
        np.testing.assert_array_equal(getattr(found, name), getattr(some(), name))
    assert (found.names, found.status, found.meta) == (some().names, some().status, some().meta)


@pytest.mark.parametrize("form", ["npz", "pkl"])
def test_truncations_never_pass(tmp_path: Path, form: str) -> None:
    some().save(tmp_path / f"r.{form}")
    whole = (tmp_path / f"r.{form}").read_bytes()
    for length in range(0, len(whole) - 1, 7):
        (tmp_path / "cut.pkl").write_bytes(whole[:length])
        with pytest.raises(UserError):
            read_results(tmp_path / "cut.pkl")


def test_the_old_form_needs_the_list_that_names_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "old.pkl"
    path.write_bytes(
        pickle.dumps({"video_preds": np.eye(3, dtype=np.float32), "video_labels": np.arange(3)})
    )
    with pytest.raises(UserError, match="list file"):
        read_results(path)
    with pytest.raises(UserError, match="2 names"):
        read_results(path, names=["a", "b"])
    found = read_results(path, names=["a", "b", "c"])
    assert found.names == ["a", "b", "c"]
    assert found.probs.argmax(1).tolist() == [0, 1, 2]


def test_doubled_names_are_refused() -> None:
    one = some()
    with pytest.raises(UserError, match="more than once"):
        Predictions(one.logits, one.probs, one.labels, ["a", "b", "a"], one.num_clips, one.status)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_is_that_of_scipy_in_the_dtype_asked_for(dtype: type) -> None:
    logits = np.random.default_rng(0).normal(scale=300, size=(50, 7)).astype(np.float32)
    found = softmax(logits, dtype)
    assert found.dtype == dtype
    expected = special.softmax(logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("key", ["seed", "split", "model", "labels", "config_hash"])
@pytest.mark.parametrize("value", [float("nan"), np.arange(3.0), [1], {"a": 1}, True])
def test_metadata_of_other_types_is_named(tmp_path: Path, key: str, value: Any) -> None:
    results = some()
    results.meta[key] = value
    results.save(tmp_path / "r.pkl")
    with pytest.raises(UserError, match=rf"r\.pkl: '{key}' in 'meta' is of type") as caught:
        read_results(tmp_path / "r.pkl")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("label", "prob"), [(4, 0.25), (-2, 0.25), (0, float("nan"))])
def test_rows_that_would_be_scored_wrongly_are_refused(
    tmp_path: Path, label: int, prob: float
) -> None:
    wrong = some()
    row = wrong.status.index("ok")
    wrong.labels[row] = label
    wrong.probs[row, 0] = prob
    wrong.save(tmp_path / "wrong.npz")
    with pytest.raises(UserError, match=r"wrong.npz: '.*expected finite probabilities and a label"):
        read_results(tmp_path / "wrong.npz")


def test_labels_are_read_as_signed_numbers(tmp_path: Path) -> None:
    first = some()
    first.labels = np.zeros(len(first.names), np.uint8)
    first.save(tmp_path / "first.npz")
    assert read_results(tmp_path / "first.npz").labels.dtype == np.int64
