"""Classify videos, folders, lists and cameras: the same as `nightcrawler predict`."""

from _start import start

if __name__ == "__main__":
    start("predict", __file__)
