import numpy as np
import pytest

from nightcrawler.pose.recordings.kinect import read_kinect
from nightcrawler.utils.errors import UserError


def made_lines(numbers=(4, 6, 6, 8)):
    joints = np.arange(60).reshape(20, 3)
    return [" ".join(map(str, [number, *(joints + number).ravel()])) for number in numbers]


def test_frames_come_once_and_look_at_the_camera():
    points, numbers, fps = read_kinect("\n".join(made_lines()))
    assert (numbers.tolist(), fps) == ([4, 6, 8], 30)
    # The head is the fourth joint: 9, 10, 11, and 4 for the frame.
    np.testing.assert_array_equal(points[0, 0], [13, 14, -15])
    np.testing.assert_array_equal(points[1, 7], [42, 43, -44])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has 0 frames"),
        ("1 2 3", "line 1 has 3 words"),
        (made_lines()[0].replace("13", "thirteen"), "other words than numbers"),
        (made_lines()[0].replace("13", "nan"), "not finite"),
    ],
)
def test_other_files_are_told(text, message):
    with pytest.raises(UserError, match=message):
        read_kinect(text)
