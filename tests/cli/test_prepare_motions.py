import pytest

from nightcrawler.cli.main import main
from nightcrawler.pose.files import read_pose
from nightcrawler.utils.io import read_csv_rows
from tests.pose.recordings.test_bvh import channels, made_bvh


def rows_of(path):
    return [fields for _, fields in read_csv_rows(path, ("path", "label"))]


def test_figures_are_balanced_repeatable_and_never_mixed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nightcrawler.synthetic.motions.PART", 5)
    for name, jobs in (("a", "1"), ("b", "2")):
        folder = str(tmp_path / name)
        assert main(["prepare", "figures", "--out", folder, "--count", "22", "--jobs", jobs]) == 0
    rows = rows_of(tmp_path / "a" / "motions.csv")
    assert [int(label) for _, label in rows] == list(range(11)) * 2
    for name, _ in rows:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert read_pose(tmp_path / "a" / rows[0][0]).space == "world"
    capsys.readouterr()
    assert main(["prepare", "figures", "--out", str(tmp_path / "a"), "--count", "1"]) == 2
    assert "holds motions.csv already" in capsys.readouterr().err


def test_motions_of_a_table_and_the_rows_that_gave_none(tmp_path, capsys):
    (tmp_path / "w.bvh").write_text(made_bvh([channels()] * 9))
    (tmp_path / "t.csv").write_text("w.bvh,,,stroll\nx.bvh,,,stroll\nw.bvh,,,dance\n")
    arguments = [str(tmp_path / "t.csv"), "--recordings", str(tmp_path)]
    arguments += ["--out", str(tmp_path / "o"), "--rename", "stroll=Walk"]
    assert main(["prepare", "motions", *arguments]) == 0
    assert rows_of(tmp_path / "o" / "motions.csv") == [["w.bvh.pose.npz", "9"]]
    out = capsys.readouterr().out
    assert "1 motions of 2 rows; 1 rows of other classes" in out
    assert "no such file" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figures", "--out", "o", "--classes", "Walk,Fly"], "--classes Fly: figures do Drink"),
        (["figures", "--out", "o", "--count", "0"], "--count 0"),
        (["motions", "t.csv", "--recordings", ".", "--out", "o", "--rename", "a"], "--rename 'a'"),
        (["motions", "t.csv", "--recordings", ".", "--out", "o"], "rows 1 and 2 are the same"),
    ],
)
def test_wrong_arguments_are_told(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("w.bvh,,,stroll\nw.bvh,,,dance\n")
    assert main(["prepare", *arguments]) != 0
    assert message in capsys.readouterr().err
