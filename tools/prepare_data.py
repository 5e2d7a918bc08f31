"""Write the list files of a dataset: the same as `nightcrawler prepare`."""

from _start import start

if __name__ == "__main__":
    start("prepare", __file__)
