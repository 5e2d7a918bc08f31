"""Open a page on this machine to drop clips on: the same as `nightcrawler serve`."""

from _start import start

if __name__ == "__main__":
    start("serve", __file__)
