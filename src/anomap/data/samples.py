"""Samples and their splits: what a layout finds, before a pixel is read."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from anomap.errors import UserError

NORMAL, ABNORMAL = 0, 1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and what is known about it. It builds its path on demand, since there may be millions."""

    name: str  # path relative to the data root, posix, unique; goes to `scores.csv`, decides the splits
    label: int  # 0 normal, 1 abnormal
    defect: str  # name of the test sub-folder ("0.normal", "crack", ...)
    root: Path | None = None  # the folder that the name is relative to; None: the layout supplies the pixels itself
    masks: tuple[Path, ...] = ()  # the ground-truth mask files, which together mark what is abnormal

    @property
    def path(self) -> Path | None:
        """The file, or None when the layout supplies the pixels itself."""
        return None if self.root is None else self.root / self.name


def spread(items: Sequence[T], at_most: int) -> list[T]:
    """At most so many of them, spread evenly."""
    count = min(at_most, len(items))
    return [items[place * len(items) // count] for place in range(count)]


PixelSource = Callable[[Sample], NDArray[np.uint8]]  # sample -> (H, W) or (H, W, C)


@dataclass(frozen=True)
class Scan:
    """What a layout found."""

    train: list[Sample]  # normal, to be split into training and calibration; empty: the layout is only a test set
    test: list[Sample]  # normal and abnormal
    pixels: PixelSource | None = None  # for samples without a path
    left_out: str = ""  # which files are not used, and why; for people
    excluded: tuple[str, ...] = ()  # names of samples that `data.exclude` left out of all of this

    def scan(self) -> "Scan":  # so that what was found is a layout, too
        return self


class Layout(Protocol):
    """Where a data set keeps its images and how it labels them; made of the options in its `conf/data/*.yaml`."""

    def scan(self) -> Scan:
        """Find and label the samples, reading no image; UserError for whatever is missing or mislabelled."""
        ...


def hash_fraction(name: str, salt: str) -> float:
    """A number in [0, 1) that depends on the name and on `salt` alone: two splits of the same names need two salts."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8, key=salt.encode()).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # 53 bits: exact in a float, never 1.0


def split_calibration(
    samples: Sequence[Sample], fraction: float, same_content: Mapping[str, str] = {}
) -> tuple[list[Sample], list[Sample]]:
    """Split normal samples into (training, calibration), both in the given order and not empty, by a hash of the name.

    `fraction`, in (0, 1), is the expected share of the calibration set. Adding or removing a file moves no other, unless a
    side would be empty. `same_content`: name -> the name to hash for it, so that byte-identical files stay together.
    UserError: fewer than two different samples.
    """
    keys = [same_content.get(sample.name, sample.name) for sample in samples]
    fractions = {name: hash_fraction(name, "calibration") for name in keys}
    if len(fractions) < 2:
        raise UserError(
            f"only {len(fractions)} different normal image(s) to train on: at least 2 are needed, "
            "one to learn from and one to calibrate on; add normal images"
        )
    first, *middle, _ = sorted(fractions, key=lambda name: (fractions[name], name))
    chosen = {first, *(name for name in middle if fractions[name] < fraction)}
    sides: tuple[list[Sample], list[Sample]] = [], []
    for sample, key in zip(samples, keys, strict=True):
        sides[key in chosen].append(sample)
    return sides


def choose_scaling(samples: Sequence[Sample], same_content: Mapping[str, str] = {}) -> NDArray[np.bool_]:
    """Which calibration samples set the scale of a score's parts, bool (N,); the others set the thresholds.

    Half of the different ones, rounded down, by another hash of the name; `same_content` as of `split_calibration`.
    """
    keys = [same_content.get(sample.name, sample.name) for sample in samples]
    ranked = sorted(set(keys), key=lambda name: (hash_fraction(name, "scaling"), name))
    chosen = set(ranked[: len(ranked) // 2])
    return np.array([key in chosen for key in keys], dtype=np.bool_)
