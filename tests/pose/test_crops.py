import numpy as np

from nightcrawler.pose.crops import crop_corners


def test_crops_cover_the_picture_and_stay_in_it():
    covered = np.zeros((240, 320), int)
    for top, left in crop_corners(240, 320, 144, 160):
        assert 0 <= top <= 240 - 144
        assert 0 <= left <= 320 - 160
        covered[int(top) : int(top) + 144, int(left) : int(left) + 160] += 1
    assert covered.min() >= 1
    # A person in the middle is in several crops: not each of them cuts it.
    assert covered[120, 160] >= 4
