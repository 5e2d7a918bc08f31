"""Stands for a task's program: its outputs are a hash of its name and of what it reads; a training goes in steps.

`fake_task.py JOURNAL NAME SECONDS OUTPUT... : INPUT...` adds `start NAME` and `end NAME` to the journal.
FAKE_TASK_STARTS=N in its environment makes it wait, up to 20 seconds, until N tasks have started.
"""

import hashlib
import os
import signal
import sys
import time

STEPS = 4


def say(journal, text):
    with open(journal, "a") as file:
        file.write(text + "\n")


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".part", "w") as file:
        file.write(text)
    os.replace(path + ".part", path)


def train(name, seconds, outputs, inputs):
    """Goes on from the last step that it saved, and saves itself when it is asked to stop."""
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    folder = os.path.dirname(outputs[0])
    saved = os.path.join(folder, "checkpoints", "latest")
    state, step = hashlib.sha256((name + inputs).encode()).hexdigest(), 0
    if os.path.exists(saved):
        with open(saved) as file:
            step, state = file.read().split()
    for number in range(int(step), STEPS):
        time.sleep(seconds / STEPS)
        state = hashlib.sha256(state.encode()).hexdigest()
        write(saved, f"{number + 1} {state}")
        if asked:
            sys.exit(75)
    write(outputs[0], state)


def wait_for_starts(journal, number):
    """Ends with an error if fewer tasks start in time."""
    deadline = time.monotonic() + 20
    while True:
        with open(journal) as file:
            if sum(line.startswith("start ") for line in file) >= number:
                return
        if time.monotonic() > deadline:
            sys.exit(f"error: fewer than {number} tasks have started")
        time.sleep(0.01)


def main(journal, name, seconds, *paths):
    outputs, inputs = paths[: paths.index(":")], paths[paths.index(":") + 1 :]
    say(journal, f"start {name}")
    wait_for_starts(journal, int(os.environ.get("FAKE_TASK_STARTS", "0")))
    texts = []
    for path in inputs:
        if os.path.exists(path):
            with open(path) as file:
                texts.append(file.read())
    if "break" in "".join(texts):
        print("error: an input says break")
        sys.exit(2)
    if name.startswith("train"):
        train(name, float(seconds), outputs, "|".join(texts))
    else:
        time.sleep(float(seconds))
        for path in outputs:
            text = "|".join([name, os.path.basename(path), *texts])
            write(path, hashlib.sha256(text.encode()).hexdigest())
    say(journal, f"end {name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
