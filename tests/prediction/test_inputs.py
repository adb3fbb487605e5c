"""Which files a prediction finds."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomap.errors import UserError
from anomap.prediction.inputs import MARKER, Names, find_inputs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        *("b.png", "a.JPG", "note.txt", ".hidden.png", "odd [1] $x$.png"),
        *("line 2/c.tif", "line 2/deep/d.bmp", ".cache/e.png", "zoë/f.webp"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_a_folder_with_and_without_its_subfolders(folder: Path) -> None:
    assert list(find_inputs(folder).names) == ["a.JPG", "b.png", "odd [1] $x$.png"]
    below = ["line 2/c.tif", "line 2/deep/d.bmp"]
    assert list(find_inputs(folder, recursive=True).names) == [
        "a.JPG",
        "b.png",
        *below,
        "odd [1] $x$.png",
        "zoë/f.webp",
    ]
    assert find_inputs(folder).root == folder


@pytest.mark.parametrize("name", ["b.png", "note.txt", "odd [1] $x$.png", "line 2/c.tif"])
def test_a_file_whatever_its_name(folder: Path, name: str) -> None:
    found = find_inputs(folder / name)
    assert (found.root, list(found.names)) == ((folder / name).parent, [Path(name).name])
    assert found.root / next(iter(found.names)) == folder / name


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.png", ["b.png", "odd [1] $x$.png"]),
        ("?.png", ["b.png"]),
        ("[ab].*", ["a.JPG", "b.png"]),
        ("*", ["a.JPG", "b.png", "odd [1] $x$.png"]),
        ("*/*", ["line 2/c.tif", "zoë/f.webp"]),
        ("**/d*", ["line 2/deep/d.bmp"]),
        ("**/*.p*", ["b.png", "odd [1] $x$.png"]),
        ("**", ["a.JPG", "b.png", "line 2/c.tif", "line 2/deep/d.bmp", "odd [1] $x$.png", "zoë/f.webp"]),
        ("**/**/*.tif", ["line 2/c.tif"]),
        (".cache*/*", [".cache/e.png"]),
    ],
)
def test_patterns(folder: Path, pattern: str, names: list[str]) -> None:
    found = find_inputs(folder / pattern)
    assert (found.root, list(found.names)) == (folder, names)


def test_names_are_relative_to_the_folder_before_the_first_wildcard(folder: Path) -> None:
    found = find_inputs(folder / "line 2" / "*" / "*.bmp")
    assert (found.root, list(found.names)) == (folder / "line 2", ["deep/d.bmp"])


def test_a_folder_that_looks_like_a_pattern(folder: Path) -> None:
    (folder / "line 2").rename(folder / "g [1]")
    found = find_inputs(folder / "g [1]/*/*.bmp")
    assert (found.root, list(found.names)) == (folder / "g [1]", ["deep/d.bmp"])
    assert list(find_inputs(folder / "g [[]1]/*.tif").names) == ["g [1]/c.tif"]


def test_a_name_that_looks_like_somebodys_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~nobody_of_this_name").mkdir()
    (tmp_path / "~nobody_of_this_name/a.png").touch()
    assert list(find_inputs("~nobody_of_this_name").names) == ["a.png"]


def test_relative_and_home_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    assert list(find_inputs("*.png").names) == list(find_inputs("~/*.png").names) == ["b.png", "odd [1] $x$.png"]
    assert list(find_inputs("b.png").names) == ["b.png"]


def test_links_to_files_are_followed_and_circles_end(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    away = tmp_path_factory.mktemp("away")
    (away / "g.png").touch()
    os.symlink(away / "g.png", folder / "g.png")
    os.symlink(away / "gone.png", folder / "gone.png")
    os.symlink(folder, folder / "circle")
    os.symlink(away, folder / "away")
    # a link to nothing was meant as an image: it is listed as unreadable
    assert list(find_inputs(folder).names) == ["a.JPG", "b.png", "g.png", "gone.png", "odd [1] $x$.png"]
    assert not any(name.startswith(("circle", "away")) for name in find_inputs(folder, recursive=True).names)
    assert list(find_inputs(folder / "aw*" / "*").names) == ["away/g.png"]
    assert list(find_inputs(folder / "away").names) == ["g.png"]


def test_results_of_a_prediction_are_no_input(folder: Path) -> None:
    before = list(find_inputs(folder, recursive=True).names)
    for results in (folder, folder / "line 2"):
        for name in ("predict.json", "contact_sheet.png", "overlays/a.png"):
            (results / name).parent.mkdir(exist_ok=True)
            (results / name).touch()
    assert list(find_inputs(folder, recursive=True).names) == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere", "no such file or folder"),
        ("nowhere/*.png", "there is no folder"),
        ("*.avif", "no image fits"),
        ("*.txt", r"no image fits.*left out 1: 1 \.txt \(note\.txt\)"),
        ("empty", "no image in this folder .*recursive=true"),
    ],
)
def test_nothing_found(folder: Path, given: str, message: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        find_inputs(folder / given)


def test_an_empty_tree_is_not_told_to_look_deeper(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        find_inputs(tmp_path, recursive=True)
    assert "recursive" not in str(error.value)


def test_every_file_of_the_input_is_accounted_for(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    (folder / "@eaDir").mkdir()
    (folder / "@eaDir/b.png").touch()
    (folder / "Thumbs.db").touch()
    os.mkfifo(folder / "pipe.png")  # would be waited for
    os.symlink(folder, folder / "circle")
    assert len(find_inputs(folder, recursive=True).names) == 6
    assert len(find_inputs(folder).names) == 3
    assert len(find_inputs(folder / "*.png").names) == 2
    deep, flat, pattern = (record.getMessage() for record in caplog.records)
    assert deep == (
        f"{folder}: 13 files: 6 images; left out 7: 2 hidden (.cache/e.png, .hidden.png), 1 .txt (note.txt), "
        "1 in @eaDir (@eaDir/b.png), 1 links to folders (circle), 1 no regular files (pipe.png), "
        "1 of the operating system (Thumbs.db)"
    )
    assert "2 folders, not entered (line 2/, zoë/)" in flat
    assert (
        pattern
        == f"{folder / '*.png'}: 4 files: 2 images; left out 2: 1 hidden (.hidden.png), 1 no regular files (pipe.png)"
    )


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=[]), min_size=1)))
def test_names_are_kept_as_they_are(names: list[str]) -> None:
    kept = Names(names)
    assert list(kept) == list(kept) == names
    assert len(kept) == len(names)
    assert all(name in kept for name in names)


def test_a_folder_without_permission_is_one_clear_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", denied)  # file modes do not stop the superuser, whom tests may run as
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **k: denied() if self.name == MARKER else stat(self, **k))
    with pytest.raises(UserError, match="cannot be read"):
        find_inputs(folder)
