"""Videos of a real object store (rclone serve s3): the results are those of local files, byte for byte."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.data.lists import VideoItem, read_list
from nightcrawler.data.video.decode import FileReader, read_frames
from nightcrawler.download import s3
from nightcrawler.download.faults import TooLargeError
from nightcrawler.predict import parts
from nightcrawler.predict.merge import merge
from nightcrawler.predict.shards import Worker
from nightcrawler.predict.sources import find_videos
from nightcrawler.predict.video_result import VideoResult
from nightcrawler.synthetic.video import write_video
from nightcrawler.utils.errors import VideoError
from tests import object_store
from tests.download.conftest import HASTE
from tests.download.test_videos import write_tar
from tests.waiting import wait_until

CLASSES = ("Run", "Walk", "Sit")
ABOUT = {"models": [], "class_names": list(CLASSES), "labels": "label-free", "mixture": {}}
NUM_VIDEOS = 12


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder behind the buckets of a store, and its address."""
    with object_store.serving(tmp_path_factory.mktemp("store")) as found:
        yield found


@pytest.fixture(scope="module")
def clips(store: tuple[Path, str]) -> Path:
    """A bucket of ten clips, a shard with two of them, and a file that is no video."""
    bucket = store[0] / "night"
    (bucket / "Run").mkdir(parents=True)
    for number in range(NUM_VIDEOS - 2):
        rng = np.random.default_rng(number)
        frames = rng.integers(0, 255, (6, 1, 1, 3), np.uint8) * np.ones((1, 32, 48, 1), np.uint8)
        write_video(bucket / f"Run/{number}.mp4", list(frames), 12)
    members = {f"{number}.mp4": (bucket / f"Run/{number}.mp4").read_bytes() for number in (0, 1)}
    write_tar(bucket / "000.tar", members)
    (bucket / "Run/7.mp4").write_bytes(b"no video")
    return bucket


@pytest.fixture
def allowed(
    store: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    """An empty cache, and keys of access to the store."""
    monkeypatch.setenv("NIGHTCRAWLER_CACHE", str(tmp_path / "cache"))
    object_store.allow(monkeypatch, store[1])
    return monkeypatch


def names_of() -> list[str]:
    files = [f"Run/{number}.mp4" for number in range(NUM_VIDEOS - 2)]
    return [*files, "000.tar::0.mp4", "000.tar::1.mp4"]


def predict(items: Sequence[VideoItem]) -> Iterator[VideoResult]:
    """A result by the mean colour of the frames, of lists of addresses by the names of local files."""
    for item in items:
        name = item.name.removeprefix("s3://night/")
        try:
            frames = read_frames(FileReader(), item.path, range).frames
        except VideoError as error:
            yield VideoResult(item.name, -1, error.status, CLASSES)
            continue
        means = frames.mean(axis=(0, 1, 2)) + 1
        probs = tuple((means / means.sum()).tolist())
        yield VideoResult(
            item.name, -1, "sure", CLASSES, int(np.argmax(probs)), probs, probs, len(name)
        )


def work(listing: Path, out: Path, pause_sec: float = 0.0) -> None:
    """A worker, as slow as is asked for."""
    items = find_videos(listing, 3)
    run = parts.open_parts(out, parts.open_run(out, ABOUT), CLASSES, len(items))

    def slowly(due: Sequence[VideoItem]) -> Iterator[VideoResult]:
        for result in predict(due):
            time.sleep(pause_sec)
            yield result

    Worker(run, items, (0, 1), slowly, print).run()


@pytest.mark.fault
def test_results_are_those_of_local_files(
    allowed: pytest.MonkeyPatch, clips: Path, tmp_path: Path
) -> None:
    """One worker of the store is killed in the middle; another goes on."""
    local = clips / "list.txt"
    local.write_text("\n".join(names_of()))
    remote = tmp_path / "list.txt"
    remote.write_text("\n".join(f"s3://night/{name}" for name in names_of()))
    out = tmp_path / "remote"
    first = multiprocessing.get_context("fork").Process(target=work, args=(remote, out, 0.3))
    first.start()
    wait_until(lambda: not first.is_alive() or len([*out.glob("parts/*.npz")]) >= 2)
    first.kill()
    first.join()
    assert 2 <= len([*out.glob("parts/*.npz")]) < NUM_VIDEOS, "killed in time"
    work(remote, out)
    work(local, tmp_path / "local")
    done = merge(out, find_videos(remote, 3), 3)
    assert (done.num_rows, done.num_without) == (NUM_VIDEOS, 1)
    merge(tmp_path / "local", find_videos(local, 3), 3)
    csv, same = ((tmp_path / kind / "predictions.csv").read_bytes() for kind in ("remote", "local"))
    assert csv.replace(b"s3://night/", b"") == same
    assert csv.count(b"sure") == NUM_VIDEOS - 1
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert object_store.SECRET.encode() not in path.read_bytes()


def test_lists_of_training_and_tests_name_objects(
    allowed: pytest.MonkeyPatch, clips: Path, tmp_path: Path
) -> None:
    remote = tmp_path / "train.csv"
    remote.write_text("s3://night/Run/3.mp4,0\ns3://night/000.tar::1.mp4,1\n")
    items = read_list(remote, [tmp_path], 2)
    for item, other in zip(items, ("Run/3.mp4", "Run/1.mp4"), strict=True):
        found = read_frames(FileReader(), item.path, range).frames
        np.testing.assert_array_equal(found, read_frames(FileReader(), clips / other, range).frames)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://night/Run/99.mp4", "the store answers with status 404"),
        ("s3://no-such-bucket/1.mp4", "the store answers with status 404"),
        ("s3://night/000.tar::9.mp4", "no regular file '9.mp4' in the archive"),
    ],
)
def test_objects_that_are_not_there(
    allowed: pytest.MonkeyPatch, clips: Path, address: str, said: str
) -> None:
    with pytest.raises(VideoError, match=said) as found:
        read_frames(FileReader(), Path(address), range)
    assert found.value.path == address


def test_an_object_above_the_limit(
    allowed: pytest.MonkeyPatch, clips: Path, tmp_path: Path
) -> None:
    with pytest.raises(TooLargeError, match="more than 10"):
        s3.download_from_s3("s3://night/Run/1.mp4", tmp_path / "part", HASTE, 10)
    assert (tmp_path / "part").stat().st_size == 0


def test_keys_that_are_wrong_or_missing(allowed: pytest.MonkeyPatch, clips: Path) -> None:
    allowed.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    s3._client.cache_clear()
    with pytest.raises(VideoError, match="status 403") as found:
        read_frames(FileReader(), Path("s3://night/Run/1.mp4"), range)
    assert "another-secret" not in str(found.value)
    allowed.delenv("AWS_SECRET_ACCESS_KEY")
    allowed.delenv("AWS_ACCESS_KEY_ID")
    s3._client.cache_clear()
    with pytest.raises(VideoError, match="no key of access; set AWS_ACCESS_KEY_ID"):
        read_frames(FileReader(), Path("s3://night/Run/1.mp4"), range)


def test_a_store_that_is_away(allowed: pytest.MonkeyPatch, clips: Path) -> None:
    allowed.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3._client.cache_clear()
    with pytest.raises(VideoError, match="the store cannot be reached") as found:
        read_frames(FileReader(), Path("s3://night/Run/1.mp4"), range)
    assert found.value.status.endswith("(open)")
