"""Draw clips under each enhancement: the same as `nightcrawler show`."""

from _start import start

if __name__ == "__main__":
    start("show", __file__)
