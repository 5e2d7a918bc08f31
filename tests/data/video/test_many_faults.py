"""Files of nothing but damage are given up soon: each place costs a search."""

import time

import numpy as np
import pytest

from nightcrawler.data.video.integrity import asf, elements
from nightcrawler.data.video.integrity.gaps import MOST_FAULTS
from nightcrawler.data.video.integrity.transport_stream import _lost_packets


def test_an_flv_file_of_faults_is_given_up(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.flv"
    path.write_bytes(b"FLV\x01\x05\0\0\0\x09\0\0\0\0" + rng.bytes(1 << 20))
    start = time.process_time()
    found = list(elements.element_faults(str(path)))
    assert len(found) <= MOST_FAULTS + 1
    assert time.process_time() - start < 30


def test_a_transport_stream_of_faults_is_given_up(tmp_path):
    packet = b"\x47" + b"\x01\x00\x10" + bytes(184)
    path = tmp_path / "a.ts"
    path.write_bytes((packet * 9 + b"\0" * 7) * 3000)
    start = time.process_time()
    lost, _ = _lost_packets(str(path), 256)
    assert MOST_FAULTS // 2 < len(lost) < 3000
    assert time.process_time() - start < 30


@pytest.mark.parametrize("count", [10, 4 * MOST_FAULTS])
def test_an_asf_file_tells_each_fault_or_that_there_are_many(tmp_path, count):
    # One compressed payload, behind six bytes of times and the number of the stream.
    sound = asf.PACKET + b"\0\x01" + bytes(6) + b"\1\1" + bytes(87)
    path = tmp_path / "packets"
    path.write_bytes((sound * 3 + b"\1" * 100) * count + sound * 3)
    with open(path, "rb") as file:
        found = list(asf._faults(file, 0, 400 * count + 300, 100))
    assert len(found) == min(count, MOST_FAULTS + 1)
    assert ("more than 256 places" in found[-1].cause) == (count > MOST_FAULTS)
