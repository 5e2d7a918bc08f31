"""Write submissions: each mode mixes the models' predictions of the test split, then modes vote."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.predict.answers import (
    ANSWERS_FILE,
    HEADER,
    Ballot,
    ballot_of_file,
    ballot_of_models,
    write_answers,
)
from nightcrawler.pseudo.ensemble import without_prediction
from nightcrawler.pseudo.label_switches import Switch
from nightcrawler.pseudo.labels import read_labels
from nightcrawler.pseudo.results_metadata import (
    label_use,
    load_joined,
    names_without_prediction,
    read_metadata,
    refuse_other_description,
    results_file,
    write_metadata,
)
from nightcrawler.pseudo.submission import read_submission, submission_file, write_submission
from nightcrawler.pseudo.vote import mode_submission, vote
from nightcrawler.pseudo.vote_recipe import read_vote_recipe
from nightcrawler.utils.command_line import make_parser
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.outputs import check_targets, refuse_other_file
from nightcrawler.utils.project import project_root

RECIPE = Path("configs/vote/default.yaml")
OUT = Path("submission")
EXAMPLES = """\
  {command}
  {command} --recipe configs/vote/ug2_2022.yaml --probability-format challenge
  {command} --modes 0 3 --vote 0 3 --split arid --all-probs"""


def select_thres(mode: int, recipe: str | Path | None = None) -> list[Switch]:
    """Return the label switches of a mode, in the order of their passes.

    Raises:
        UserError: if the recipe is bad or has no such mode.
    """
    return read_vote_recipe(recipe or project_root() / RECIPE).mode(mode).switches


def generate_final_sub(
    mode: int,
    recipe: str | Path | None = None,
    prefix: str | Path | None = None,
    split: str = "test",
    out: str | Path | None = None,
    form: str = "number",
    names: Sequence[str] | None = None,
) -> Path:
    """Write the submission of a mode, `arid_pred_{mode}.csv`, and return its path.

    Args:
        mode: one of the recipe's.
        recipe: the YAML file.
        prefix: the folder that holds the recipe's experiments.
        split: the split that they were tested on.
        out: the folder to write into.
        form: `number`, `all_probs` or `challenge`.
        names: names of rows, for results files in the old form.

    Raises:
        UserError: if results are missing, bad, or do not fit together, or another JSON file would
            be replaced.
    """
    path = submission_file(Path(out or project_root() / OUT), mode)
    refuse_other_description(path)
    _generate_mode(mode, path, recipe, prefix, split, form, names)
    return path


def _generate_mode(
    mode: int,
    path: Path,
    recipe: str | Path | None,
    prefix: str | Path | None,
    split: str,
    form: str,
    names: Sequence[str] | None,
) -> Ballot:
    """Write the submission of a mode, and return the predictions of its models."""
    whole = read_vote_recipe(recipe or project_root() / RECIPE)
    # Folders of a recipe are relative, so that it holds for any copy of the project.
    prefix = Path(prefix or project_root())
    ensemble = whole.mode(mode).ensemble
    wanted = zip(ensemble.folders.values(), ensemble.pairs, strict=True)
    paths = [results_file(prefix / folder, split, pair) for folder, pair in wanted]
    joined, inputs = load_joined(paths, ensemble, whole.classes, names)
    # A submission needs a row for every video, even for one that could not be decoded.
    warning = without_prediction(joined)
    if warning:
        print(f"warning: {warning}; they get class 0", file=sys.stderr)
    submission = mode_submission(joined, whole.mode(mode), whole.softmax_again)
    write_submission(path, submission, form)
    about = {
        "labels": label_use(inputs, whole.labels),
        "mode": mode,
        "classes": joined.class_names,
        "without_prediction": np.array(joined.names)[~joined.ok].tolist(),
        **ensemble.describe(len(joined.class_names)),
        "switches": [vars(switch) for switch in whole.mode(mode).switches],
        "softmax_again": whole.softmax_again,
        "inputs": inputs,
    }
    write_metadata(path, about)
    print(f"{path}: {len(joined.names)} videos, mode {mode}, {about['labels']}")
    if whole.softmax_again:
        # Only the written numbers are flattened by a second softmax.
        submission = mode_submission(joined, whole.mode(mode))
    return ballot_of_models(joined, list(ensemble.folders), submission)


def vote_for_sub(
    paths: Sequence[str | Path],
    out: str | Path | None = None,
    tie: str = "probability",
    form: str = "number",
    ballots: Mapping[Path, Ballot] | None = None,
) -> Path:
    """Write the majority of submissions, `arid_pred.csv`, and return its path.

    `predictions.csv` beside it holds the same answers with names of classes, how many models agree,
    and whether to believe each answer.

    Args:
        paths: submissions, any number of them.
        out: the folder to write into.
        tie: `probability` sums the probabilities of those who voted for a class, and takes the
            smaller class id if they are equal; `class` takes the smaller class id at once.
        form: `number`, `all_probs` or `challenge`.
        ballots: submission to the predictions of its models, of those that are known.

    Raises:
        UserError: if one is missing, bad, or of other videos.
    """
    if not paths:
        raise UserError("a vote needs at least one submission")
    sources = [Path(path) for path in paths]
    path = submission_file(Path(out or project_root() / OUT))
    answers = path.with_name(ANSWERS_FILE)
    check_targets([path, path.with_suffix(".json"), answers], sources=sources)
    refuse_other_file(answers, ",".join(HEADER), "a vote")
    refuse_other_description(path)
    submissions = [read_submission(path) for path in sources]
    submission = vote(submissions, [str(path) for path in sources], tie)
    voters = [read_metadata(path) for path in sources]
    known = dict(ballots or {})
    for source, one, voter in zip(sources, submissions, voters, strict=True):
        if source not in known:
            known[source] = ballot_of_file(source, one, voter)
        num_classes = len(known[source].class_names)
        if num_classes and submission.labels.max() >= num_classes:
            raise UserError(
                f"{source}: has {num_classes} classes, and another file names class "
                f"{submission.labels.max()}: expected the same classes in all, from 0"
            )
    inputs = [{key: voter[key] for key in ("file", "sha256", "labels")} for voter in voters]
    # A video is without a prediction only if no voter had one.
    lacking = set.intersection(*map(names_without_prediction, sources, voters))
    write_submission(path, submission, form)
    about: dict[str, object] = {"labels": label_use(inputs), "tie": tie}
    classes = next((ballot.class_names for ballot in known.values() if ballot.class_names), ())
    if classes:
        about["classes"] = list(classes)
    about["without_prediction"] = [name for name in submission.names if name in lacking]
    write_metadata(path, {**about, "inputs": inputs})
    print(f"{path}: {len(submission.names)} videos, vote of {len(sources)}, {label_use(inputs)}")
    write_answers(answers, submission, [known[source] for source in sources])
    print(f"{answers}: the same with names of classes")
    return path


def parse(argv: Sequence[str]) -> Any:
    """Parse the command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "--recipe",
        type=Path,
        default=project_root() / RECIPE,
        metavar="YAML",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--prefix",
        type=Path,
        default=project_root(),
        metavar="FOLDER",
        help="holds the recipe's experiments (default: %(default)s)",
    )
    parser.add_argument(
        "--split", default="test", help="split of the results (default: %(default)s)"
    )
    parser.add_argument(
        "--modes",
        nargs="*",
        type=int,
        metavar="M",
        help="modes to make (default: all of the recipe)",
    )
    parser.add_argument(
        "--vote", nargs="+", type=int, metavar="M", help="modes that vote (default: the recipe's)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=project_root() / OUT,
        metavar="FOLDER",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--list", type=Path, metavar="CSV", help="names the rows of results in the old form"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--all-probs", action="store_true", help="add a column for each class's probability"
    )
    form.add_argument(
        "--probability-format",
        choices=("number", "challenge"),
        default="number",
        help="number: that of the class; challenge: all in brackets (default: %(default)s)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Make the modes, then vote."""
    arguments = parse(argv)
    recipe = read_vote_recipe(arguments.recipe)
    # Two options, since --all-probs dates from the original script.
    form = "all_probs" if arguments.all_probs else arguments.probability_format
    names = list(read_labels(arguments.list)) if arguments.list else None
    made = list(recipe.modes) if arguments.modes is None else arguments.modes
    voting = arguments.vote or recipe.voters
    if len(set(voting)) < len(voting):
        raise UserError(f"--vote {' '.join(map(str, voting))}: expected each mode once")
    paths = {mode: submission_file(arguments.out, mode) for mode in made}
    # Before the first mode is written: all or nothing.
    answers = arguments.out / ANSWERS_FILE
    check_targets([answers], sources=[arguments.recipe, arguments.list])
    refuse_other_file(answers, ",".join(HEADER), "a vote")
    for path in (submission_file(arguments.out), *paths.values()):
        check_targets([path, path.with_suffix(".json")], sources=[arguments.recipe, arguments.list])
        refuse_other_description(path)
    ballots = {}
    for mode, path in paths.items():
        ballots[path] = _generate_mode(
            mode, path, arguments.recipe, arguments.prefix, arguments.split, form, names
        )
    voters = [submission_file(arguments.out, mode) for mode in voting]
    vote_for_sub(voters, arguments.out, recipe.tie, form, ballots)
    return 0
