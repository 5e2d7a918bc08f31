"""List the sub-commands, with the standard library only: a command line starts at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A sub-command of `nightcrawler`.

    Attributes:
        module: module of `nightcrawler.cli` whose `main(argv)` runs it.
        summary: one line of help.
        function: name of the function in place of `main`.
        hidden: kept for scripts, not listed.
    """

    module: str
    summary: str
    function: str = "main"
    hidden: bool = False


# Modules are named, not imported: `nightcrawler --help` must not load a library. The order is that
# of the overview: prediction first, then the steps of an experiment, then data and tools.
COMMANDS = {
    "predict": Command("predict", "classify videos, folders, lists and cameras"),
    "serve": Command("serve", "open a page on this machine to drop clips on"),
    "init": Command("init", "lay out experiment folders, configs and recipes to edit"),
    "train": Command("net", "train one experiment", "main_train"),
    "test": Command("net", "test one experiment and write results files", "main_test"),
    "config": Command("net", "print the resolved configuration", "main_config"),
    "net": Command("net", "train, test or show-config, as tools/run_net.py", hidden=True),
    "several": Command("several", "run several commands one after the other", hidden=True),
    "pipeline": Command("pipeline", "run a recipe: trainings, tests, pseudo-labels, vote"),
    "label": Command("label", "write the pseudo-labels of a round"),
    "thresholds": Command("emulate", "search thresholds, or score pseudo-labels"),
    "vote": Command("vote", "write the submission of an ensemble vote"),
    "report": Command("report", "write a page about one run or several"),
    "score": Command("score", "print the accuracy of results files"),
    "export": Command("export", "export a model to torch.export, ONNX, safetensors"),
    "push": Command("push", "send a model to the Hugging Face hub"),
    "convert": Command("convert", "inspect and convert checkpoints"),
    "info": Command("info", "print parameters, cost and layers of a model"),
    "weights": Command("weights", "list and verify public weights"),
    "prepare": Command("prepare", "write the list files of a dataset"),
    "audit": Command("audit", "check which videos decode, how dark they are, duplicates"),
    "pose": Command("pose", "find the people in videos and write their poses"),
    "show": Command("show", "draw clips under each enhancement"),
    "synthetic": Command("synthetic", "render the synthetic dataset"),
    "benchmark": Command("benchmark", "run a benchmark of a checkout"),
    "doctor": Command("doctor", "check the installation and this machine"),
}
