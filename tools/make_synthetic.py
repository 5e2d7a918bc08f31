"""Render the synthetic dataset: the same as `nightcrawler synthetic`."""

from _start import start

if __name__ == "__main__":
    start("synthetic", __file__)
