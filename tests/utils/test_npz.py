"""Files of arrays: numpy reads ours, ours reads numpy's, and forged ones are refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.pseudo.predictions import read_results
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.npz import read_npz_bytes, write_npz
from tests.pseudo.test_predictions import some

ARRAYS = {
    "scores": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32),
    "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "big": np.arange(5, dtype=">i8"),
    "text": np.array(["é", "走", ""]),
    "none": np.zeros((0, 4), np.float32),
    "alone": np.array("{}"),
}


def header(text: str, content: bytes = b"") -> bytes:
    raw = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw + content


def npz(content: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as container:
        container.writestr("video_preds.npy", content)
    return file.getvalue()


def test_numpy_reads_what_is_written_and_equal_arrays_are_equal_bytes() -> None:
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        write_npz(file, ARRAYS)
    assert files[0].getvalue() == files[1].getvalue()
    files[0].seek(0)
    with np.load(files[0], allow_pickle=False) as found:
        assert sorted(found) == sorted(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(found[name], array)


def test_what_numpy_writes_is_read() -> None:
    file = io.BytesIO()
    np.savez(file, **ARRAYS)
    found = read_npz_bytes(file.getvalue())
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert found[name].flags.writeable


FORGED = {
    "object": npz(header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"\x80N.")),
    "huge": npz(header("{'descr': '<f8', 'fortran_order': False, 'shape': (1 , 9999999999), }")),
    "negative": npz(header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -4), }")),
    "fields": npz(header("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }")),
    "no characters": npz(
        header("{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }", b"\xff" * 4)
    ),
    "compressed": npz(bytes(1 << 16), zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_arrays_are_refused(tmp_path: Path, case: str) -> None:
    path = tmp_path / "forged.npz"
    path.write_bytes(FORGED[case])
    with pytest.raises(UserError, match=r"forged\.npz: refused: ") as caught:
        read_results(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["(" * 5000, "{'descr': 3}", "import os", "{'shape': [}"])
def test_headers_that_are_none_are_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "damaged.npz"
    path.write_bytes(npz(header(text)))
    with pytest.raises(UserError, match=r"damaged\.npz: ") as caught:
        read_results(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("meta", ["[" * 200_000, "3", "[]", '{"seed": NaN}', '{"seed": [1]}', "{"])
def test_metadata_of_another_form_is_one_line(tmp_path: Path, meta: str) -> None:
    path = tmp_path / "meta.npz"
    some().save(path)
    with open(path, "rb") as file:
        content = read_npz_bytes(file.read())
    with open(path, "wb") as file:
        write_npz(file, {**content, "meta": np.array(meta)})
    with pytest.raises(UserError, match=r"meta\.npz: ") as caught:
        read_results(path)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    some().save(path)
    content = bytearray(path.read_bytes())
    place = content.index(some().probs.astype(np.float32).tobytes())
    content[place + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a readable results file"):
        read_results(path)
