"""Each figure of the readability measure counts what its name says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.readability import count_file, figures, main


def counted(text: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    count_file(text, counts)
    return counts


@pytest.mark.parametrize(
    ("figure", "bad", "good"),
    [
        ("clauses", '"""What is read."""', '"""Read it."""'),
        ("clauses", 'def f():\n    """Whether it is."""', 'def f():\n    """Return it."""'),
        ("'what'", '"""Say what is what."""', '"""Say it."""'),
        ("semicolons", '"""Read; write."""', 'x = "a;b"'),
        ("comprehensions", "x = {a for a in b}", "x = list(b)"),
        ("nested comprehensions", "x = [a for b in c for a in b]", "x = [a for a in b]"),
        ("nested comprehensions", "x = [[a for a in b] for b in c]", "x = [a for a in b]"),
        ("conditional expressions", "x = a if b else c", "if a: b"),
        ("tuple assignments", "a, b = 1, 2", "a, b = f()"),
        ("comment lines", "# why", "a = 1  # why"),
        ("wide lines", "a = " + "1" * 97, "a = " + "1" * 96),
        ("long functions", "def f():\n" + "    a\n" * 60, "def f():\n" + "    a\n" * 59),
        ("long files", "a\n" * 401, "a\n" * 400),
    ],
)
def test_a_figure_counts_the_bad_and_not_the_good(figure: str, bad: str, good: str) -> None:
    assert counted(bad)[figure] > 0
    assert counted(good)[figure] == 0


def test_limits_are_kept_and_missed() -> None:
    kept = {limit.figure: ok for limit, _, ok in figures(counted("# why\n" * 4 + "a = 1\n" * 96))}
    assert all(kept.values())
    missed = {limit.figure: ok for limit, _, ok in figures(counted("a = 1\n" * 100))}
    assert not missed["comment lines"]


def test_the_command_fails_where_a_limit_is_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fine.py").write_text('"""Read it."""\n# why\n')
    assert main([str(tmp_path)]) == 0
    (tmp_path / "bad.py").write_text('"""What is read."""\n')
    assert main([str(tmp_path)]) == 1
    assert "MISS     50.0 <= 1     clauses per 100 docstrings" in capsys.readouterr().out
    assert main([str(tmp_path / "nowhere")]) == 2
