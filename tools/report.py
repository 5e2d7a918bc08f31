"""Write a page about one run or several: the same as `nightcrawler report`."""

from _start import start

if __name__ == "__main__":
    start("report", __file__)
