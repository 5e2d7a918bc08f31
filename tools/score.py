"""Print the accuracy of results files: the same as `nightcrawler score`."""

from _start import start

if __name__ == "__main__":
    start("score", __file__)
