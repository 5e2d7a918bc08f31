"""All figures of a run as plain values: what the page shows, the table prints and `report.json` holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nightcrawler import __version__
from nightcrawler.pseudo.ensemble import join
from nightcrawler.pseudo.labels import compare, read_labels
from nightcrawler.pseudo.results_files import LABEL_FREE, ORACLE, label_use, read_metadata
from nightcrawler.pseudo.submission import read_submission
from nightcrawler.pseudo.thresholds import most_probable
from nightcrawler.report import measures as measures
from nightcrawler.report.measures import Guess
from nightcrawler.report.run_folder import Results, RunFolder
from nightcrawler.workflow.run import DONE

MOST_MISTAKES = 20

# A split and names of its videos to their brightness, the mean of a clip's RGB values; some may be left out.
MeasureBrightness = Callable[[str, Sequence[str]], Mapping[str, float]]


def collect(run: RunFolder, look: MeasureBrightness | None = None) -> dict[str, Any]:
    """The figures of a run, as JSON can hold them.

    Args:
        run: the folder.
        look: measures brightness; `None` leaves accuracy by brightness out.

    Raises:
        UserError: if a file is there and bad.
    """
    guesses = Guesses(run)
    splits = [found for split in guesses.splits() if (found := split_figures(run, guesses, split))]
    focus = choose_focus(run, splits)
    pseudo, moved = pseudo_figures(run)
    uses = [one.use for one in guesses.models.values()]
    return {
        "version": __version__,
        "run": run.folder.resolve().name,
        "recipe": run.state.get("recipe", ""),
        "classes": run.class_names,
        "chance": 100 / len(run.class_names),
        "models": list(run.state["models"]),
        "control": list(run.state.get("control", [])),
        "use": _use(uses) if uses else "",
        "seeds": sorted({seed for one in guesses.models.values() for seed in one.seeds}),
        "splits": splits,
        "focus": focus_figures(run, guesses, focus, look) if focus else None,
        "pseudo": pseudo,
        "drift": moved,
        "links": link_figures(run),
        "versions": _versions(run.results),
        "notes": list(dict.fromkeys(run.notes)),
    }


def _use(uses: Iterable[str]) -> str:
    return LABEL_FREE if all(use == LABEL_FREE for use in uses) else ORACLE


def stamp(run: RunFolder, split: str, guesses: Sequence[Guess], clips: int) -> dict[str, Any]:
    """What every figure says of itself: label use, split, seeds, clips, whose true classes it was measured with."""
    return {
        "use": _use(guess.use for guess in guesses),
        "split": split,
        "seeds": sorted({seed for guess in guesses for seed in guess.seeds}),
        "clips": clips,
        "dark_labels": run.kind(split) == "dark",
        "picked": run.picks_checkpoints(split),
    }


class Guesses:
    """What models, their ensembles and the vote say, by split.

    Args:
        run: whose results are read.

    Attributes:
        models: (split, stage, model, control) to what it says.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._results = {(one.split, one.stage, one.model, one.control): one for one in run.results}
        self.models = {key: self._of_model(one) for key, one in self._results.items()}

    def _of_model(self, one: Results) -> Guess:
        found = one.predictions
        classes, confidences = most_probable(np.where(found.ok[:, None], found.probs, 0.0))
        labels = self.run.fill(one.split, found.names, found.labels)
        return Guess(
            found.names, np.where(found.ok, classes, -1), confidences, labels, one.use, one.seeds
        )

    def splits(self) -> list[str]:
        """Splits that were tested, those that the recipe names first."""
        order = [
            *self.run.state["test_splits"],
            self.run.state["vote_split"],
            self.run.state["unlabelled"],
        ]
        tested = [split for split, *_ in self.models]
        return [split for split in dict.fromkeys([*order, *tested]) if split in tested]

    def of_stage(self, split: str, stage: str, control: bool = False) -> dict[str, Guess]:
        """Model to what it says, of a stage or of its controls."""
        names = self.run.state["models"]
        keys = {name: (split, stage, name, control) for name in names}
        return {name: self.models[key] for name, key in keys.items() if key in self.models}

    def ensemble(self, split: str, stage: str, control: bool = False) -> Guess | None:
        """Equal mean of the probabilities of a stage's models; `None` for fewer than two.

        Raises:
            UserError: if they are of different videos.
        """
        members = self.of_stage(split, stage, control)
        if len(members) < 2:
            return None
        results = [self._results[split, stage, name, control] for name in members]
        paths = [str(one.path) for one in results]
        joined = join([one.predictions for one in results], paths, ["probs"] * len(results))
        classes, confidences = most_probable(np.mean(joined.probs, axis=0))
        classes = np.where(joined.ok, classes, -1)
        labels = self.run.fill(split, joined.names, joined.labels)
        seeds = tuple(sorted({seed for one in results for seed in one.seeds}))
        return Guess(
            joined.names, classes, confidences, labels, _use(one.use for one in results), seeds
        )

    def _labels(self, split: str) -> dict[str, int]:
        """Name to true class, as results of a split know them."""
        found: dict[str, int] = {}
        for (of, *_), guess in self.models.items():
            if of == split:
                found |= {
                    name: label
                    for name, label in zip(guess.names, guess.labels.tolist(), strict=True)
                    if label >= 0
                }
        return found

    def submissions(self) -> dict[str, Guess]:
        """Name to what a submission says, the vote last; empty as long as there is no vote."""
        found = {}
        for link in self.run.links("vote"):
            paths = [
                path for text in link["outputs"] if (path := self.run.locate(text)).suffix == ".csv"
            ]
            for path in paths if self.run.is_there(link) else ():
                read, about = read_submission(path), read_metadata(path)
                known = self._labels(link["split"])
                labels = np.array([known.get(name, -1) for name in read.names], np.int64)
                labels = self.run.fill(link["split"], read.names, labels)
                given = about.get("inputs", [])
                seeds = tuple(
                    sorted({one["seed"] for one in given if isinstance(one.get("seed"), int)})
                )
                # The submission gives these a class all the same; it is no answer.
                lacking = np.isin(read.names, about.get("without_prediction", []))
                classes = np.where(lacking, -1, read.labels)
                found[path.stem] = Guess(
                    read.names, classes, read.confidences, labels, about["labels"], seeds
                )
        return found


def split_figures(run: RunFolder, guesses: Guesses, split: str) -> dict[str, Any] | None:
    """Accuracy and agreement of every stage on a split; `None` where nothing was tested on it."""
    stages = [_stage(run, guesses, split, stage) for stage in run.stages]
    stages = [stage for stage in stages if stage["models"]]
    if not stages:
        return None
    is_voted = run.state["vote_split"] == split
    votes = [
        {"name": name, **measures.score(guess), "use": guess.use}
        for name, guess in (guesses.submissions().items() if is_voted else ())
    ]
    shown = [guess for (name, *_), guess in guesses.models.items() if name == split]
    clips = max(int(guess.known.sum()) for guess in shown)
    return {
        "split": split,
        "kind": run.kind(split),
        "stamp": stamp(run, split, shown, clips),
        "videos": max(len(guess.names) for guess in shown),
        "stages": stages,
        "votes": votes,
    }


def _stage(run: RunFolder, guesses: Guesses, split: str, stage: dict[str, Any]) -> dict[str, Any]:
    """A row: models, their mean, the best, the ensemble, controls; the mean of some of the models is none."""
    found, controls = (
        guesses.of_stage(split, stage["name"]),
        guesses.of_stage(split, stage["name"], control=True),
    )
    models = {name: measures.score(guess) for name, guess in found.items()}
    control = {name: measures.score(guess) for name, guess in controls.items()}
    whole = set(stage["models"]) <= set(models)
    ensemble = guesses.ensemble(split, stage["name"]) if whole else None
    of_controls = guesses.ensemble(split, stage["name"], control=True)
    best = max(models, key=lambda name: models[name]["percent"] or 0.0, default="")
    aligned = ensemble is not None and all(
        guess.names == ensemble.names for guess in found.values()
    )
    table = measures.agreement(list(found.values())) if aligned else None
    return {
        "stage": stage["name"],
        "round": stage["round"],
        "in_chain": stage["in_chain"],
        "num_models": len(stage["models"]),
        "models": models,
        "mean": _mean(models) if whole else None,
        "best": best if whole else "",
        "ensemble": measures.score(ensemble) if ensemble else None,
        "control": control,
        "control_mean": _mean(control) if control else None,
        "same_mean": _mean({name: models[name] for name in control})
        if control and set(control) <= set(models)
        else None,
        "control_ensemble": measures.score(of_controls) if of_controls else None,
        "agreement": table,
        "mean_agreement": measures.mean_agreement(table) if table else None,
    }


def _mean(shares: dict[str, dict[str, Any]]) -> float | None:
    percents = [one["percent"] for one in shares.values()]
    return float(np.mean(percents)) if percents and None not in percents else None


def choose_focus(run: RunFolder, splits: Sequence[dict[str, Any]]) -> str:
    """The split that is looked at closely: the voted one if its true classes are known, else a dark one, else any."""
    known = [one for one in splits if one["stamp"]["clips"]]
    order = ("darkened", "bright", "dark")
    ranked = sorted(
        known, key=lambda one: (one["split"] == run.state["vote_split"], order.index(one["kind"]))
    )
    return str(ranked[-1]["split"]) if ranked else ""


def focus_figures(
    run: RunFolder, guesses: Guesses, split: str, look: MeasureBrightness | None
) -> dict[str, Any]:
    """Confusion, calibration and mistakes on one split; of the last stage of the chain that is tested on it."""
    ensembles = {}
    for stage in run.stages:
        models = guesses.of_stage(split, stage["name"])
        if stage["in_chain"] and set(stage["models"]) <= set(models):
            ensembles[stage["name"]] = guesses.ensemble(split, stage["name"]) or next(
                iter(models.values())
            )
    if not ensembles:
        tested = [stage["name"] for stage in run.stages if guesses.of_stage(split, stage["name"])]
        ensembles = {tested[-1]: next(iter(guesses.of_stage(split, tested[-1]).values()))}
    last = list(ensembles)[-1]
    guess = ensembles[last]
    members = guesses.of_stage(split, last)
    votes = guesses.submissions() if run.state["vote_split"] == split else {}
    shown = {"ensemble": guess} if len(members) > 1 else {}
    if votes:
        shown["vote"] = list(votes.values())[-1]
    return {
        "split": split,
        "stage": last,
        "stamp": stamp(run, split, [guess, *members.values()], int(guess.known.sum())),
        "matrices": [
            {
                "name": name,
                "folded": name in members,
                "counts": measures.confusion(one, len(run.class_names)),
            }
            | {"stamp": stamp(run, split, [one], int(one.known.sum()))}
            for name, one in {**shown, **members}.items()
        ],
        "calibration": {name: measures.calibration(one) for name, one in ensembles.items()},
        "model_calibration": {name: measures.calibration(one) for name, one in members.items()},
        "mistakes": measures.mistakes(guess, MOST_MISTAKES),
        "lighting": _lighting(run.results, split, last),
        "brightness": _by_brightness(guess, split, look) if look else [],
    }


def _by_brightness(guess: Guess, split: str, look: MeasureBrightness) -> list[dict[str, Any]]:
    rows = np.flatnonzero(guess.known).tolist()
    found = look(split, [guess.names[row] for row in rows])
    rows = [row for row in rows if guess.names[row] in found]
    return measures.by_brightness(
        np.array([found[guess.names[row]] for row in rows]), guess.hits[rows]
    )


def _lighting(results: Sequence[Results], split: str, stage: str) -> dict[str, Any]:
    """How clips of a split were lit in testing."""
    meta = [
        one.predictions.meta
        for one in results
        if (one.split, one.stage, one.control) == (split, stage, False)
    ]
    return (
        {"enhancement": meta[0].get("enhancement", "none"), "gamma": meta[0].get("gamma")}
        if meta
        else {}
    )


def pseudo_figures(run: RunFolder) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Pseudo-labels of each round: how many, how good; and how they moved from a round to the next.

    Raises:
        UserError: if a file is bad.
    """
    rounds, moved, before = [], [], None
    for link in run.links("label"):
        if not run.is_there(link):
            continue
        path = run.locate(link["outputs"][0])
        labels, about = read_labels(path), read_metadata(path)
        if max(labels.values()) >= len(run.class_names) or min(labels.values()) < 0:
            rounds_of = f"expected 0..{len(run.class_names) - 1}"
            run.notes.append(
                f"{path}: labels {min(labels.values())}..{max(labels.values())}, {rounds_of}: left out"
            )
            continue
        rounds.append(_round(run, link, labels, about))
        if before is not None:
            moved.append(
                {
                    "before": rounds[-2]["stage"],
                    "after": link["stage"],
                    **measures.drift(before, labels),
                }
            )
            moved[-1]["use"] = label_use(rounds[-2:])
        before = labels
    return rounds, moved


def _round(
    run: RunFolder, link: dict[str, Any], labels: dict[str, int], about: dict[str, Any]
) -> dict[str, Any]:
    split = link["split"]
    truth = run.truth(split)
    table = compare(labels, np.array(list(labels.values()), np.int64), truth, run.class_names)
    videos, inputs = about.get("videos"), about.get("inputs", [])
    classes = [
        {"name": one.name, "rows": one.rows, "precision": measures.share(one.correct, one.known)}
        | {"coverage": measures.share(one.covered, one.true)}
        for one in table
    ]
    return {
        "stage": link["stage"],
        "round": link["round"],
        "split": split,
        "labels": about["labels"],
        "method": about.get("method", ""),
        "thresholds": about.get("thresholds", []),
        "seeds": sorted({one["seed"] for one in inputs if isinstance(one.get("seed"), int)}),
        "rows": len(labels),
        "videos": videos,
        "coverage": 100 * len(labels) / videos if videos else None,
        "precision": classes[-1]["precision"],
        "all": classes.pop(),
        "classes": classes,
        "dark_labels": run.kind(split) == "dark",
    }


def link_figures(run: RunFolder) -> list[dict[str, Any]]:
    """Every link: what it is, what became of it, seconds."""
    keys = ("name", "kind", "status", "reason", "seconds")
    return [
        {key: link.get(key) for key in keys} | {"stage": link.get("stage", "")}
        for link in run.state["links"]
    ]


def unfinished(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """The links that are not done."""
    return [link for link in figures["links"] if link["status"] != DONE]


def _versions(results: Sequence[Results]) -> dict[str, list[str]]:
    """Library to the versions that results were made with."""
    found: dict[str, set[str]] = {}
    for one in results:
        versions = one.predictions.meta.get("versions", {})
        for name, version in versions.items() if isinstance(versions, dict) else ():
            found.setdefault(str(name), set()).add(str(version))
    return {name: sorted(versions) for name, versions in found.items()}
