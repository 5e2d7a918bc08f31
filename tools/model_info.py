"""Print parameters, cost and layers of a model: the same as `nightcrawler info`."""

from _start import start

if __name__ == "__main__":
    start("info", __file__)
