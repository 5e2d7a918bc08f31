"""Train or test one experiment, or print its resolved configuration.

The same as `nightcrawler train`, `nightcrawler test` and `nightcrawler config`.
"""

from _start import start

if __name__ == "__main__":
    start("net", __file__)
