"""Check which videos decode and how dark they are: the same as `nightcrawler audit`."""

from _start import start

if __name__ == "__main__":
    start("audit", __file__)
