"""Words of errors: no password is shown, however the address is written."""

from __future__ import annotations

import pytest

from nightcrawler.utils.errors import mask_credentials


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://admin:hush@10.0.0.2/stream",
        "rtsp://admin:pa/hush@10.0.0.2:1/stream",
        "rtsp://admin:p@hush/w@10.0.0.2:1/stream",
        "rtsp:/admin:hush@10.0.0.2/stream",
        "rtsp//admin:hush@10.0.0.2/stream",
        "RTSP://hush@10.0.0.2/stream",
        "http://10.0.0.2/stream?user=me&password=hush",
    ],
)
def test_no_password_is_shown(address: str) -> None:
    shown = mask_credentials(f"error: {address}: no live source there")
    assert "hush" not in shown
    assert "10.0.0.2" in shown
    assert shown.endswith("no live source there")


@pytest.mark.parametrize(
    "text",
    [
        "clips/12:30@garden.mp4: no such file",
        "https://host/clips/a.mp4: 404",
        "hf://owner/name@main/model.safetensors",
        "a=b@c.mp4",
    ],
)
def test_other_names_stay_as_they_are(text: str) -> None:
    assert mask_credentials(text) == text
