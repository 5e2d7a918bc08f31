"""Zeros in place of lost bytes, as crashed recorders and broken downloads leave them."""

from __future__ import annotations

# Start codes of these streams begin with zeros, or their codes hold few of them, so that sound
# packets never have more than five zero bytes in a row, not even of black pictures (measured on
# files of each encoder). JPEG and Theora do have long rows.
CODECS_WITHOUT_ZEROS = frozenset(
    ("mpeg4", "h263", "flv1", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2")
)
# The same, but zeros may follow each picture, to keep the bit rate.
PADDED_CODECS = frozenset(("h264", "hevc", "mpeg1video", "mpeg2video"))
# Arithmetic coders may write any byte, but a long row of one is beyond all chance (41 were seen).
ARITHMETIC_CODECS = frozenset(("vp8", "vp9", "av1"))
LOST_BYTES = bytes(64)
LONG_LOSS = bytes(256)


def holds_lost_bytes(codec: str, packet: bytes) -> bool:
    """Return whether a packet holds a row of zeros that no encoder writes.

    Args:
        codec: canonical name, such as `h264`.
        packet: bytes of the packet.
    """
    if LOST_BYTES not in packet:
        return False
    if codec in CODECS_WITHOUT_ZEROS:
        return True
    content = packet.rstrip(b"\0")
    if codec in PADDED_CODECS:
        return not content or LOST_BYTES in content
    return codec in ARITHMETIC_CODECS and (not content or LONG_LOSS in content)
