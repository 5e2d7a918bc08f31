"""Run a recipe: trainings, tests, pseudo-labels, vote: the same as `nightcrawler pipeline`."""

from _start import start

if __name__ == "__main__":
    start("pipeline", __file__)
