"""The ELPV layout, on a small copy and on the real package where it is installed."""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from anomap.data.layouts.elpv import ElpvLayout
from anomap.errors import UserError

from ..helpers import module


def write_labels(root: Path, rows: list[tuple[float, str]]) -> Path:
    lines = [f"images/cell{n:04d}.png  {probability} {cell}" for n, (probability, cell) in enumerate(rows)]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


ROWS = [(0.0, "mono")] * 40 + [(1 / 3, "poly")] * 5 + [(2 / 3, "mono")] * 6 + [(1.0, "poly")] * 7


def test_uncertain_cells_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    root = write_labels(tmp_path, ROWS)
    certain, everything = ElpvLayout(root).scan(), ElpvLayout(root, uncertain=True).scan()
    assert Counter(s.defect for s in certain.train + certain.test) == {"normal": 40, "defective": 7}
    defects = Counter((s.defect, s.label) for s in everything.train + everything.test)
    assert defects[("probably_normal", 0)] == 5
    assert defects[("probably_defective", 1)] == 6


def test_training_is_normal_and_all_abnormal_cells_are_tested(tmp_path: Path) -> None:
    scan = ElpvLayout(write_labels(tmp_path, ROWS)).scan()
    assert {sample.label for sample in scan.train} == {0}
    assert sum(sample.label for sample in scan.test) == 7
    assert not {s.name for s in scan.train} & {s.name for s in scan.test}


def test_cells_choose_the_type(tmp_path: Path) -> None:
    scan = ElpvLayout(write_labels(tmp_path, ROWS), cells="poly").scan()
    assert (len(scan.train), len(scan.test)) == (0, 7)


def test_wrong_options_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"data\.cells=thin"):
        ElpvLayout(cells="thin")
    with pytest.raises(UserError, match=r"data\.uncertain"):
        ElpvLayout(uncertain="yes")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=r"labels\.csv"):
        ElpvLayout(tmp_path).scan()
    (tmp_path / "labels.csv").write_text("a,b,c\n")
    with pytest.raises(UserError, match="not the ELPV label file"):
        ElpvLayout(tmp_path).scan()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "anomap\[elpv\]"'):
        ElpvLayout().scan()


@pytest.mark.thorough
@pytest.mark.elpv
def test_the_real_data_set() -> None:
    pytest.importorskip("elpv_dataset")
    scan = ElpvLayout().scan()
    everything = ElpvLayout(uncertain=True).scan()
    assert len(everything.train) + len(everything.test) == 2624
    labels = Counter(sample.label for sample in scan.train + scan.test)
    assert labels == {0: 1508, 1: 715}
    assert len(scan.train) == pytest.approx(1206, abs=40)
    data = module(ElpvLayout(), image_size=32)
    data.setup()
    counts = data.counts()
    assert counts["n_train"] + counts["n_calibration"] == len(scan.train)
    assert counts["n_calibration"] == pytest.approx(0.15 * len(scan.train), abs=35)
    assert counts["n_test_normal"] + len(scan.train) == 1508
    assert counts["n_test_abnormal"] == 715
    assert data.test.images.shape == (len(scan.test), 1, 32, 32)
