"""Samples and their splits: what a layout finds, before a pixel is read."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anomap.errors import UserError

NORMAL = 0
ABNORMAL = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and what is known about it. It builds its path on demand, since there may be millions.

    Attributes:
        name: path relative to the data root, posix, unique; goes to `scores.csv`, decides the splits.
        label: 0 normal, 1 abnormal.
        defect: name of the test sub-folder ("0.normal", "crack", ...).
        root: the folder that the name is relative to, or None when the layout supplies the pixels itself.
        mask: the ground-truth mask file, or None.
    """

    name: str
    label: int
    defect: str
    root: Path | None = None
    mask: Path | None = None

    @property
    def path(self) -> Path | None:
        """The file, or None when the layout supplies the pixels itself."""
        return None if self.root is None else self.root / self.name


@dataclass(frozen=True)
class Scan:
    """What a layout found: normal images to learn from, and the test set.

    Attributes:
        train: normal samples, not yet split into training and calibration; empty when the layout is only a
            test set.
        test: normal and abnormal samples.
        pixels: for samples without a path, sample -> uint8 (H, W) or (H, W, C).
    """

    train: list[Sample]
    test: list[Sample]
    pixels: Callable[[Sample], NDArray[np.uint8]] | None = None


@dataclass(frozen=True)
class Splits:
    """The three disjoint lists a run works with; training and calibration hold normal samples only."""

    train: list[Sample]
    calibration: list[Sample]
    test: list[Sample]


def hash_fraction(name: str, salt: str) -> float:
    """A number in [0, 1) that depends on the name alone, not on the machine or on other samples.

    Args:
        name: a sample's name.
        salt: the purpose. Two splits of the same names need two salts, or the second would depend on the first.
    """
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8, key=salt.encode()).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # 53 bits: exact in a float, never 1.0


def split_calibration(
    samples: Sequence[Sample], fraction: float, same_content: Mapping[str, str] | None = None
) -> tuple[list[Sample], list[Sample]]:
    """Split normal samples into training and calibration by a hash of the name.

    Adding or removing a file moves no other file, except where needed to keep both sides non-empty.

    Args:
        samples: at least two normal samples.
        fraction: expected share of the calibration set, in (0, 1).
        same_content: name -> name under which it is hashed, so that byte-identical files stay on one side.

    Returns:
        (train, calibration), both non-empty, in the given order.

    Raises:
        UserError: fewer than two different samples.
    """
    key = {sample.name: (same_content or {}).get(sample.name, sample.name) for sample in samples}
    fractions = {name: hash_fraction(name, "calibration") for name in key.values()}
    if len(fractions) < 2:
        raise UserError(
            f"only {len(fractions)} different normal image(s) to train on: at least 2 are needed, "
            "one to learn from and one to calibrate on; add normal images"
        )
    ranked = sorted(fractions, key=lambda name: (fractions[name], name))
    chosen = {name for name in ranked if fractions[name] < fraction}
    chosen.add(ranked[0])
    chosen.discard(ranked[-1])
    train = [sample for sample in samples if key[sample.name] not in chosen]
    calibration = [sample for sample in samples if key[sample.name] in chosen]
    return train, calibration


def choose_scaling(samples: Sequence[Sample], same_content: Mapping[str, str] | None = None) -> NDArray[np.bool_]:
    """Split the calibration samples in two by another hash of the name.

    Args:
        samples: of the calibration set.
        same_content: as of `split_calibration`.

    Returns:
        (N,): True for half of the different ones, rounded down, which set the scale of a score's parts; the others set
        the thresholds.
    """
    keys = [(same_content or {}).get(sample.name, sample.name) for sample in samples]
    ranked = sorted(set(keys), key=lambda name: (hash_fraction(name, "scaling"), name))
    chosen = set(ranked[: len(ranked) // 2])
    return np.array([key in chosen for key in keys], dtype=np.bool_)
