"""`data.exclude`: exactly what is listed is left out, of everything; the split of the others stays."""

import logging
from pathlib import Path

import pytest

from anomap.data.anomaly_data import AnomalyData
from anomap.data.build import build_data
from anomap.data.settle import settle
from anomap.errors import UserError
from anomap.runs.suspicious import TrainingRow, write_suspicious
from tests import tiny
from tests.data.helpers import make_dataset, save

Sets = dict[str, set[str]]


def built(root: Path, exclude: object, **options: object) -> AnomalyData:
    config = {"name": "folder", "root": str(root), "image_size": 8, "channels": 1, "batch_size": 4}
    return build_data({**config, "exclude": exclude, **options})


def sets(data: AnomalyData) -> Sets:
    """The names in each set."""
    data.setup()
    return {part: {s.name for s in getattr(data, part).samples} for part in ("train", "calibration", "test")}


def listing(folder: Path, *lines: str) -> str:
    (folder / "list.txt").write_text("\n".join(lines) + "\n")
    return str(folder / "list.txt")


def test_exactly_the_listed_files_are_left_out_and_no_other_moves(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", train=40)
    before = sets(built(root, None))
    out = {*sorted(before["train"])[:2], *sorted(before["calibration"])[1:2], "test/crack/01.png"}
    file = listing(tmp_path, "# looked at by hand", "", *out)
    assert sets(built(root, file)) == {part: names - out for part, names in before.items()}


def test_paths_may_be_absolute_and_go_through_links(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data")
    (tmp_path / "link").symlink_to(root)
    before = sets(built(root, None))
    file = listing(tmp_path, f"{root}/train/0.normal/03.png", f"{tmp_path}/link/test/crack/00.png")
    out = {"train/0.normal/03.png", "test/crack/00.png"}
    for place in (root, tmp_path / "link"):
        assert sets(built(place, file)) == {part: names - out for part, names in before.items()}


def test_one_line_accounts_for_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_dataset(tmp_path / "data")
    file = listing(tmp_path, "train/0.normal/03.png", "test/crack/00.png")
    with caplog.at_level(logging.INFO):
        built(root, file).layout.scan()
    (line,) = (record for record in caplog.records if "files:" in record.message)
    assert "19 files: 17 used (11 train, 6 test; 17 .png); left out 2: 2 excluded by " in line.message
    assert "list.txt (test/crack/00.png, train/0.normal/03.png)" in line.message
    assert line.levelno == logging.INFO


def test_a_listed_file_that_is_not_there_is_told_and_the_others_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_dataset(tmp_path / "data")
    file = listing(tmp_path, "train/0.normal/03.png", "train/0.normal/typo.png")
    found = built(root, file).layout.scan()
    assert found.excluded == ("train/0.normal/03.png",)
    (warning,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert "1 of 2 lines of " in warning.message
    assert "train/0.normal/typo.png" in warning.message


@pytest.mark.parametrize(
    ("lines", "said"), [(("good/03.png", "x.png"), "2 of 2 lines"), (("path,verdict", "a.png,maybe"), "maybe")]
)
def test_a_wrong_list_is_one_line(tmp_path: Path, lines: tuple[str, ...], said: str) -> None:
    root = make_dataset(tmp_path / "data")
    with pytest.raises(UserError, match=said):
        built(root, listing(tmp_path, *lines)).layout.scan()
    with pytest.raises(UserError, match=r"data\.exclude=.*missing\.txt: cannot be read"):
        built(root, str(tmp_path / "missing.txt"))


def test_of_suspicious_csv_the_rows_with_that_verdict_count(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data")
    save(root / "train/0.normal/=1,5.png", seed=50)
    names = ["train/0.normal/=1,5.png", "train/0.normal/02.png", "train/0.normal/03.png"]
    verdicts = ["suspicious", "ok", "suspicious"]
    rows = [TrainingRow(name, "train", 1.0, 9.0, verdict) for name, verdict in zip(names, verdicts, strict=True)]
    write_suspicious(tmp_path / "suspicious.csv", rows)
    found = built(root, str(tmp_path / "suspicious.csv")).layout.scan()
    assert set(found.excluded) == {names[0], names[2]}
    text = (tmp_path / "suspicious.csv").read_text().replace(",5", "#5").replace(",", ";").replace("#5", ",5")
    (tmp_path / "spreadsheet.csv").write_text(text)
    assert built(root, str(tmp_path / "spreadsheet.csv")).layout.scan().excluded == found.excluded


def test_settled_names_stand_for_the_file_which_may_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are what a checkpoint holds; a file that has gone since is nothing to tell."""
    root = make_dataset(tmp_path / "data")
    file = listing(tmp_path, "train/0.normal/03.png", "train/0.normal/04.png")
    config, found = settle(tiny.config(f"data.root={root}", f"data.exclude={file}"))
    assert config["data"]["exclude"] == ["train/0.normal/03.png", "train/0.normal/04.png"]
    Path(file).unlink()
    (root / "train/0.normal/03.png").unlink()
    again = build_data(config["data"]).layout.scan()
    assert again.train == found.train
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_layouts_that_know_nothing_of_it_exclude_too(tmp_path: Path) -> None:
    elpv = ("data=elpv", "data.root=null")
    whole = build_data(tiny.config(*elpv)["data"]).layout.scan()
    out = whole.train[3].name
    found = build_data(tiny.config(*elpv, f"data.exclude={listing(tmp_path, out)}")["data"]).layout.scan()
    assert [s.name for s in found.train] == [s.name for s in whole.train if s.name != out]
    assert found.test == whole.test
