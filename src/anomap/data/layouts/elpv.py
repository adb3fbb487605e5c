"""ELPV: 2,624 electroluminescence images of solar cells, 300 x 300 pixels, 8-bit grey.

Deitsch et al., "Automatic classification of defective photovoltaic module cells in electroluminescence
images", Solar Energy 185, 2019. Installed by the PyPI package `elpv-dataset` (CC BY-NC-SA 4.0); each cell has
a probability of being defective, 0, 1/3, 2/3 or 1, and a type, mono- or polycrystalline.
"""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from anomap.config import check_choice, check_switches
from anomap.data.files import existing_folder
from anomap.data.samples import ABNORMAL, NORMAL, Sample, Scan, hash_fraction
from anomap.errors import UserError

CELLS = ("all", "mono", "poly")
TEST_FRACTION = 0.2  # of the normal cells; the data set has no split of its own
_DEFECTS = ("normal", "probably_normal", "probably_defective", "defective")  # by thirds of probability


@dataclass(frozen=True)
class ElpvLayout:
    """Normal cells split 80/20 into train and test by a hash of the file name; all abnormal cells in test."""

    root: str | os.PathLike[str] | None = None  # with labels.csv and images/; None: where `elpv-dataset` has them
    cells: str = "all"  # one of `CELLS`
    uncertain: bool = False  # keep the cells of probability 1/3 (as normal) and 2/3 (as abnormal)

    def __post_init__(self) -> None:
        check_choice("data.cells", self.cells, CELLS)
        check_switches({"data.uncertain": self.uncertain}, "data.uncertain")

    def scan(self) -> Scan:
        """UserError: the package or its files are missing."""
        package = importlib.util.find_spec("elpv_dataset")  # does not import it
        if self.root is not None:
            root = existing_folder("root", self.root)
        elif package is not None and package.origin is not None:
            root = Path(package.origin).with_name("data")
        else:
            raise UserError(
                'the package elpv-dataset is not installed: pip install "anomap[elpv]", or set data.root to a folder '
                "with its labels.csv and images"
            )
        scan = Scan([], [])
        for name, thirds, cell in _read_labels(root / "labels.csv"):
            if self.cells in ("all", cell) and (thirds not in (1, 2) or self.uncertain):
                sample = Sample(name, ABNORMAL if thirds >= 2 else NORMAL, _DEFECTS[thirds], root)
                learn = sample.label == NORMAL and hash_fraction(Path(name).name, "test") >= TEST_FRACTION
                (scan.train if learn else scan.test).append(sample)
        return scan


def _read_labels(path: Path) -> list[tuple[str, int, str]]:
    """Rows (file name, probability in thirds, cell type), separated by blanks in the file."""
    try:
        rows = [line.split() for line in path.read_text("utf-8").splitlines() if line.strip()]
        return [(name, round(float(probability) * 3), cell) for name, probability, cell in rows]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; reinstall elpv-dataset or correct data.root") from error
    except ValueError as error:
        raise UserError(f"{path} is not the ELPV label file (name probability type): reinstall elpv-dataset") from error
