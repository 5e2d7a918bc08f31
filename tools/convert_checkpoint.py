"""Inspect and convert checkpoints: the same as `nightcrawler convert`."""

from _start import start

if __name__ == "__main__":
    start("convert", __file__)
