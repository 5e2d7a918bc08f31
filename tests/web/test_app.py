"""The server through HTTP: what it answers, what it refuses, what it keeps; a worker that fails fails one clip."""

from __future__ import annotations

import errno
import io
import socket
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from starlette.requests import Request

from nightcrawler.data.lists import VideoItem
from nightcrawler.data.lowlight.enhance.gamma import apply_gamma
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.ensemble import build_ensemble
from nightcrawler.synthetic.video import write_video
from nightcrawler.web.uploads import check_origin
from tests.reading import read_file
from tests.waiting import wait_until
from tests.web import whole_answers
from tests.web.conftest import MAX_BYTES, WHY, Served, serving


def decoded(content: bytes) -> np.ndarray:
    with av.open(io.BytesIO(content)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_clip_is_answered_as_predicting_answers_it(
    served: Served, clip: Path, experiments: tuple[Path, ...]
) -> None:
    status, said = served.send(clip.name, clip.read_bytes())
    assert status == 200
    ensemble = build_ensemble(experiments, None, Path(), PredictOptions())
    (row,) = ensemble.videos([VideoItem(clip.name, -1, clip, 1)])
    expected = [(ensemble.class_names[label], row.probs[label]) for label in row.top(5)]
    assert [one["class"] for one in said["top"]] == [name for name, _ in expected]
    np.testing.assert_allclose(
        [one["probability"] for one in said["top"]], [prob for _, prob in expected], atol=1e-6
    )
    votes = [(one["name"], one["class"], one["agrees"]) for one in said["models"]]
    wanted = [
        (name, ensemble.class_names[vote])
        for name, vote in zip(("first", "second"), row.votes, strict=True)
    ]
    assert votes == [(name, vote, vote == expected[0][0]) for name, vote in wanted]
    assert said["name"] == clip.name
    assert said["num_frames"] == 12
    edges = [said["timeline"][0]["start_sec"], said["timeline"][-1]["end_sec"]]
    np.testing.assert_allclose(edges, [0, 1], atol=1e-6)


def test_its_previews_are_the_clip_before_and_after_enhancement(served: Served, clip: Path) -> None:
    _, said = served.send(clip.name, clip.read_bytes())
    source = read_file(str(clip), lambda count: list(range(count))).frames
    shown = [
        decoded(served.ask("GET", f"/{said[key]}")[2]).astype(float) for key in ("before", "after")
    ]
    lit = apply_gamma(source, 0.25)
    for found, frames in zip(shown, (source, lit), strict=True):
        assert found.shape == frames.shape
        assert abs(found.mean() - frames.mean()) < 3
    assert said["size"] == [48, 40]
    np.testing.assert_allclose(said["brightness"], [source.mean(), lit.mean()], atol=0.1)
    status, headers, part = served.ask("GET", f"/{said['after']}", range="bytes=0-9")
    assert (status, len(part), headers["content-type"]) == (206, 10, "video/mp4")


@pytest.mark.parametrize("fps", [Fraction(1, 30), Fraction(1, 25), Fraction(1, 5000)])
def test_a_time_lapse_is_answered(
    experiments: tuple[Path, ...], fps: Fraction, tmp_path: Path
) -> None:
    from nightcrawler.web.inference import InferenceOptions, build_inference

    frames = np.random.default_rng(3).integers(0, 60, (4, 40, 48, 3), np.uint8)
    write_video(tmp_path / "lapse.mp4", frames, fps)
    options = InferenceOptions(
        experiments[1:], None, None, Path(), True, Path(), 3.0, 1.5, 1e6, Limits(), 1
    )
    answer, _ = build_inference(options)
    clip = {"path": str(tmp_path / "lapse.mp4"), "name": "lapse.mp4", "folder": str(tmp_path)}
    said = answer({"do": "predict", "is_damaged": False, **clip})
    assert said["seconds"] == pytest.approx(float(4 / fps), rel=0.01)
    assert len(said["result"]["segments"]) >= 1
    for name in ("before.mp4", "after.mp4"):
        assert decoded((tmp_path / name).read_bytes()).shape == (1, 40, 48, 3)


def test_a_time_of_a_preview_is_one_of_the_clip() -> None:
    """Frames with uneven times: each moment shows the last frame that has begun."""
    from nightcrawler.data.video.stream import Frame
    from nightcrawler.web.previews import paced

    times = [0.0, 0.1, 0.2, 1.0, 1.1]
    frames = [Frame(at, time, np.full((2, 2, 3), at, np.uint8)) for at, time in enumerate(times)]
    shown = [int(picture[0, 0, 0]) for picture in paced(frames, 10.0, 0.1)]
    assert shown == [0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "body", "headers", "status", "text"),
    [
        (
            "notes.txt",
            b"walk",
            {},
            415,
            "'notes.txt' is not a video by its name: expected one of mp4,",
        ),
        ("noname", b"walk", {}, 415, "is not a video by its name"),
        ("../../etc/passwd", b"walk", {}, 415, "'passwd' is not"),
        (
            "notes.mp4",
            b"these are words\n" * 99,
            {},
            422,
            "this is no video that can be read: it may be another kind of file",
        ),
        ("empty.mp4", b"", {}, 422, "the file is empty: nothing was recorded"),
        ("big.mp4", bytes(MAX_BYTES + 1), {}, 413, "larger than 1 MiB"),
        ("a.mp4", b"walk", {"sec_fetch_site": "cross-site"}, 403, "from this page only"),
        ("a.mp4", b"walk", {"origin": "http://evil.example"}, 403, "from this page only"),
        ("a.mp4", b"walk", {"origin": "null"}, 403, "from this page only"),
    ],
)
def test_what_cannot_be_used_says_why(
    served: Served, name: str, body: bytes, headers: dict[str, str], status: int, text: str
) -> None:
    kept = sorted(served.folder.iterdir())
    found, said = served.send(name, body, **headers)
    assert found == status
    assert text in said["error"]
    assert str(served.folder) not in said["error"]
    assert sorted(served.folder.iterdir()) == kept


def test_requests_of_other_sites_and_names_are_refused(served: Served) -> None:
    assert served.ask("GET", "/", host="evil.example")[0] == 400
    status, _, content = served.ask("POST", "/clips", b"walk")
    assert status == 400
    assert b"X-File-Name" in content
    for path in (
        "/clips/x/before.mp4",
        "/app.py",
        "/page.html",
        "/static/page.html",
        "/examples/..%2fapp.py",
        "/clips/..%2f..%2fapp.py/before.mp4",
        "/../app.py",
    ):
        assert served.ask("GET", path)[0] == 404


def test_every_answer_says_that_nothing_is_loaded_from_elsewhere(served: Served) -> None:
    for method, path in (
        ("GET", "/"),
        ("GET", "/style.css"),
        ("GET", "/no"),
        ("POST", "/clips"),
        ("PUT", "/clips"),
    ):
        headers = served.ask(method, path)[1]
        assert headers["content-security-policy"].startswith(
            "default-src 'none'; script-src 'self';"
        )
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
    page = served.ask("GET", "/")[2].decode()
    assert "http" not in page
    assert "style=" not in page
    assert "first, second" in page
    assert "gamma 0.25" in page


# --- a worker that fails, limits ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    for name in ("starlette", "uvicorn"):
        pytest.importorskip(name, reason=WHY)
    with serving(whole_answers.build, tmp_path_factory.mktemp("kept"), 2.0) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "text"), [("hang.mp4", "took more than 2 s"), ("crash.mp4", "signal SIGSEGV")]
)
def test_a_clip_that_breaks_the_worker_fails_and_the_next_one_works(
    fragile: Served, name: str, text: str
) -> None:
    pid = fragile.worker.pid
    status, said = fragile.send(name, b"frames")
    assert status == 500
    assert text in said["error"]
    status, said = fragile.send("fine.mp4", b"frames")
    assert status == 200
    assert said["models"][0]["name"] != str(pid)


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("bug.mp4", 422, "this clip cannot be used: an unexpected ZeroDivisionError"),
        ("full.mp4", 507, "disk for temporary files is full"),
    ],
)
def test_an_unexpected_error_or_a_full_disk_in_the_worker_refuses_one_clip(
    fragile: Served, name: str, status: int, text: str
) -> None:
    pid = fragile.worker.pid
    found, said = fragile.send(name, b"frames")
    assert found == status
    assert text in said["error"]
    assert fragile.send("fine.mp4", b"frames")[1]["models"][0]["name"] == str(pid)


@pytest.mark.parametrize("where", ["folder", "upload"])
def test_a_full_disk_gives_507_with_all_headers_however_often(
    fragile: Served, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nightcrawler.web import app
    from nightcrawler.web.security import HEADERS

    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    kept = sorted(fragile.folder.iterdir())
    if where == "folder":
        monkeypatch.setattr(Path, "mkdir", no_room)
    else:
        monkeypatch.setattr(app, "save", no_room)
    for _ in range(app.MAX_WAITING + 1):
        status, headers, content = fragile.ask("POST", "/clips", b"x", x_file_name="a.mp4")
        assert status == 507
        assert b"disk for temporary files is full" in content
        assert headers.items() >= HEADERS.items()
    monkeypatch.undo()
    assert fragile.send("fine.mp4", b"x")[0] == 200
    assert len(list(fragile.folder.iterdir())) == len(kept) + 1


def test_a_failure_of_the_server_itself_has_all_headers(
    fragile: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nightcrawler.web import texts
    from nightcrawler.web.security import HEADERS

    def fail(folder: str, name: str) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(texts, "resource", fail)
    status, headers, _ = fragile.ask("GET", "/")
    assert status == 500
    assert headers.items() >= HEADERS.items()


def test_while_too_many_wait_the_next_is_sent_away(fragile: Served) -> None:
    from nightcrawler.web.app import MAX_WAITING

    threads = [
        threading.Thread(target=fragile.send, args=("hang.mp4", b"x")) for _ in range(MAX_WAITING)
    ]
    before = set(fragile.folder.iterdir())
    for thread in threads:
        thread.start()
    # Each clip that waits has a folder.
    wait_until(lambda: len(set(fragile.folder.iterdir()) - before) == MAX_WAITING, timeout=30)
    status, said = fragile.send("fine.mp4", b"x")
    for thread in threads:
        thread.join(60)
    assert status == 503
    assert "try again" in said["error"]
    assert fragile.send("fine.mp4", b"x")[0] == 200


@pytest.mark.parametrize("chunked", [True, False])
def test_an_upload_that_is_slow_or_longer_than_it_says_is_cut_off(
    fragile: Served, chunked: bool
) -> None:
    kept = sorted(fragile.folder.iterdir())
    with socket.create_connection(("127.0.0.1", fragile.port), timeout=30) as connection:
        how = "Transfer-Encoding: chunked" if chunked else "Content-Length: 99"
        connection.sendall(
            f"POST /clips HTTP/1.1\r\nHost: localhost\r\nX-File-Name: a.mp4\r\n{how}\r\n\r\n".encode()
        )
        if chunked:
            block = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
            for _ in range(MAX_BYTES // (1 << 16) + 1):
                connection.sendall(block)
        answer = connection.recv(1 << 16)
    assert answer.startswith(b"HTTP/1.1 413" if chunked else b"HTTP/1.1 408")
    assert sorted(fragile.folder.iterdir()) == kept


def test_a_word_for_the_readable_part_is_refused(served: Served) -> None:
    status, _, content = served.ask("POST", "/clips?readable=yes", b"walk", x_file_name="a.mp4")
    assert status == 400
    assert b"readable=yes: expected 0 or 1" in content


@pytest.mark.parametrize("origin", ["http://night.example:8000", None])
def test_the_page_itself_and_programs_may_send_clips(origin: str | None) -> None:
    headers = [(b"host", b"night.example:8000")]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    check_origin(Request({"type": "http", "method": "POST", "path": "/clips", "headers": headers}))
