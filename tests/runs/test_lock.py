"""One process at a time in a folder."""

import errno
import fcntl
from pathlib import Path

import pytest

from anomap.errors import UserError
from anomap.runs.lock import alone


def test_a_second_one_is_kept_out_until_the_first_is_done(tmp_path: Path) -> None:
    with alone(tmp_path / "new", "busy"):
        with pytest.raises(UserError, match="busy"), alone(tmp_path / "new", "busy"):
            pytest.fail("both are in")
        with alone(tmp_path / "other", "busy"):
            pass
    with alone(tmp_path / "new", "busy"):
        pass


def test_a_folder_that_cannot_be_made_is_one_line() -> None:
    with pytest.raises(UserError, match="/dev/null/out: cannot be written to"), alone(Path("/dev/null/out"), "busy"):
        pass


def test_without_locks_on_the_file_system_the_work_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with alone(tmp_path, "busy"):
        pass
