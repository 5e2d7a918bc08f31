"""Documents say what is so: blocks are run on tiny data or checked, links resolve, what is named exists."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from nightcrawler.cli.commands import COMMANDS
from nightcrawler.utils.plugins import GROUP
from tests.docs import commands, pages
from tests.docs.project import Made, Project, edited, expand, make
from tests.paths import ROOT

IDS = [str(path.relative_to(ROOT)) for path in pages.PAGES]
MAX_LINES_OF_CODE = 40


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture(params=pages.PAGES, ids=IDS)
def page(request: pytest.FixtureRequest) -> pages.Page:
    return pages.read_page(request.param)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_block_does_what_it_says(page: pages.Page, made: Made, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", made)
    for block in page.blocks:
        place = f"{page.path.name}:{block.line}"
        for command in pages.commands(block.text) if block.language == "bash" else ():
            faults = list(commands.check(command, project.folder, values="needs" in block.marks))
            assert not faults, f"{place}: {faults}"
        if block.language == "python":
            compile(block.text, place, "exec")
        try:
            project.do(block)
        except (AssertionError, ValueError) as error:
            pytest.fail(f"{place}: {error}")


def test_inline_code_names_what_there_is(page: pages.Page) -> None:
    written = [block.marks["file"] for block in page.blocks if "file" in block.marks]
    faults = [
        f"{page.path.name}:{line}: code goes on in the next line"
        for line, text in page.prose
        if text.count("`") % 2
    ]
    for line, text in page.inline():
        words = text.split()
        found = [
            f"no key {key[0]}"
            for key in commands.KEY.finditer(text)
            if key[0] not in commands.all_keys()
        ]
        if words[0] in ("python", "bash", "make") and len(words) > 1 and "..." not in text:
            found += commands.check(text)
        elif words[0] not in written:
            found += commands.check_paths(words[:1], ROOT)
        faults += [f"{page.path.name}:{line}: `{text}`: {fault}" for fault in found]
    assert not faults, "\n".join(faults)


def test_links_resolve(page: pages.Page) -> None:
    for line, target in page.links():
        name, _, anchor = target.partition("#")
        path = page.path.parent / name if name else page.path
        assert path.exists(), f"{page.path.name}:{line}: {target}"
        assert not anchor or anchor in pages.read_page(path).anchors(), (
            f"{page.path.name}:{line}: {target}"
        )


# The project on the package index that has our import name, and must not be installed in our place.
WRONG_PACKAGE = re.compile(r"pip install [^\n]*?(?<![\w./-])nightcrawler(?![\w/-])")


def test_no_text_tells_to_install_the_web_crawler() -> None:
    folders = ("nightcrawler", "tools", "gen_pseudo_tools", "configs", "docs", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [*ROOT.glob("*.md"), *ROOT.glob("*.py"), ROOT / "Makefile"]
    texts = (".py", ".md", ".sh", ".yaml", ".html", "")
    wrong = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in files
        if path.suffix in texts
        for match in WRONG_PACKAGE.finditer(path.read_text(encoding="utf-8"))
    ]
    assert wrong == []
    assert WRONG_PACKAGE.search("pip install 'nightcrawler[export]'")
    assert WRONG_PACKAGE.search("pip install nightcrawler")
    assert not WRONG_PACKAGE.search("pip install 'nightcrawler-video[web]'")


def test_every_tool_and_page_is_in_a_document() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in pages.PAGES)
    tools = [
        *(ROOT / "tools").glob("*.py"),
        *(ROOT / "tools").rglob("*.sh"),
        *(ROOT / "docs").glob("*.md"),
    ]
    assert [path.name for path in tools if path.name not in text] == []
    assert {"run_net.py", "one_node.sh", "extending.md"} <= {path.name for path in tools}


EXTENSIONS = ("A model", "A dataset", "An enhancement", "An adapter", "A loss on pseudo-labels")


def test_an_extension_takes_fewer_than_40_lines_of_code() -> None:
    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert tuple(section.splitlines()[0] for section in sections[:-1]) == EXTENSIONS
    for section in sections[:-1]:
        blocks = [
            block
            for block in pages.take_apart(Path("section"), section).blocks
            if block.language != "bash"
        ]
        lines = [line for block in blocks for line in block.lines]
        code = [
            line for line in lines if line.strip() and not line.strip().startswith(("#", '"""'))
        ]
        assert 0 < len(code) < MAX_LINES_OF_CODE, section.splitlines()[0]


def test_files_of_an_extension_lie_outside_the_package_and_pass_make_lint(tmp_path: Path) -> None:
    """Followed on a clean clone, the page leaves `make lint` clean, and no file of the project changes."""
    page = pages.read_page(ROOT / "docs/extending.md")
    assert not [block for block in page.blocks if "edit" in block.marks]
    written = [block for block in page.blocks if "file" in block.marks]
    for block in written:
        name = block.marks["file"]
        assert not (ROOT / name).exists()
        assert name.startswith(("my_models/", "my_data/")), name
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
    config = ("--no-cache", "--config", str(ROOT / "pyproject.toml"))
    for task in (("check",), ("format", "--check")):
        command = [sys.executable, "-m", "ruff", *task, *config, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(written) == 6


NAME = re.compile(r"(?:nightcrawler|benchmarks)(?:\.\w+)+")


def test_names_of_modules_and_classes_exist(page: pages.Page) -> None:
    names = [(line, text) for line, text in page.inline() if NAME.fullmatch(text)]
    absent = [f"{page.path.name}:{line}: {name}" for line, name in names if not _exists(name)]
    assert not absent, "\n".join(absent)


def _exists(name: str) -> bool:
    """Whether a dotted name is a module, an attribute of one, or the group of entry points."""
    if name == GROUP:
        return True
    parent, _, last = name.rpartition(".")
    try:
        return hasattr(importlib.import_module(parent), last) or bool(find_spec(name))
    except ModuleNotFoundError:
        return False


def test_every_command_is_in_a_document() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in pages.PAGES)
    shown = [name for name, command in COMMANDS.items() if not command.hidden]
    assert [name for name in shown if f"nightcrawler {name}" not in text] == []


def test_the_import_diagram_is_up_to_date() -> None:
    command = [sys.executable, "-m", "benchmarks.import_diagram", "--check"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# The checks themselves: each finds what is wrong.


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("python tools/absent.py", "no such script"),
        ("python tools/score.py --no-such", "has no option --no-such"),
        (
            "python tools/prepare_data.py tree src --official-lists x",
            "has no option --official-lists",
        ),
        ("bash exp_adapt_bn/uniformer_b32_k600/run.sh TRAIN.BATCHSIZE 4", "no key TRAIN.BATCHSIZE"),
        ("bash exp_adapt_bn/uniformer_b32_k600/run.sh TRAIN.BATCH_SIZE four", "TRAIN.BATCH_SIZE"),
        ("bash exp_adapt_bn/uniformer_b32_k600/run.sh --cover x", "has no option --cover"),
        ("NPROC=2 bash exp_adapt_bn/absent/run.sh", "there is no exp_adapt_bn/absent"),
        (
            "sbatch tools/slurm/one_node.sh exp_adapt_bn/sf32_k700 MODEL.NAMES x",
            "no key MODEL.NAMES",
        ),
        ("sbatch --wrap 'python tools/predict.py a --shards 1'", "has no option --shards"),
        ("torchrun --nproc-per-node 2 tools/predict.py a --shards 1", "has no option --shards"),
        (
            "cd x && python tools/run_pipeline.py configs/pipeline/absent.yaml",
            "there is no configs/pipeline/absent",
        ),
        ("make absent", "no target 'absent'"),
        ("python -m nightcrawler.absent", "no module"),
        ("wget example.com", "does not know"),
    ],
)
def test_a_wrong_command_is_found(line: str, fault: str) -> None:
    assert any(fault in found for found in commands.check(line))


@pytest.mark.parametrize(
    "line",
    [
        "python tools/prepare_data.py tree src --dark d --out o",
        "NPROC=2 bash exp_adapt_bn/uniformer_b32_k600/run.sh --overlay configs/demo.yaml SOLVER.MAX_EPOCH 2",
        "python tools/model_info.py --markdown configs/models/*.yaml",
        "python tools/score.py exp_adapt_bn/uniformer_b32_k600/arid*.npz",
        "make test",
    ],
)
def test_a_right_command_passes(line: str) -> None:
    assert list(commands.check(line)) == []


def test_marks_are_read_and_wrong_ones_refused() -> None:
    text = "<!-- given: a.pkl -->\n<!-- needs: gpu (two) -->\n```bash\na \\\n  b  # c\n```\n"
    (block,) = pages.take_apart(Path("p.md"), text).blocks
    assert block.marks == {"given": "a.pkl", "needs": "gpu (two)"}
    assert pages.commands(block.text) == ["a b"]
    for bad in ("<!-- skip: x -->\n```bash\n```\n", "<!-- needs: luck -->\n```bash\n```\n"):
        with pytest.raises(ValueError, match="expected one of"):
            pages.take_apart(Path("p.md"), bad)
    with pytest.raises(ValueError, match="stand before no block"):
        pages.take_apart(Path("p.md"), "<!-- needs: gpu -->\ntext\n")
    with pytest.raises(ValueError, match="no end"):
        pages.take_apart(Path("p.md"), "```bash\nls\n")


def test_edits_apply_once_or_not_at_all() -> None:
    assert edited("a\nb\nc\n", [" a", "-b", "+x", "@@", " c", "+d"]) == "a\nx\nc\nd\n"
    for lines in (["-z"], ["-a"]):
        with pytest.raises(ValueError, match="expected once"):
            edited("a\nb\na\n", lines)
    assert list(expand("a/{b,c}/{1,2}.mp4")) == ["a/b/1.mp4", "a/b/2.mp4", "a/c/1.mp4", "a/c/2.mp4"]


def test_a_block_that_fails_is_found(made: Made, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", made)
    for text, language in (
        ("raise SystemExit(1)", "python"),
        ("python tools/score.py absent.pkl", "bash"),
    ):
        with pytest.raises(AssertionError, match="exit code"):
            project.do(pages.Block(language, 1, [text]))
