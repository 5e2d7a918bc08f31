"""Check the installation and this machine: the same as `nightcrawler doctor`."""

from _start import start

if __name__ == "__main__":
    start("doctor", __file__)
