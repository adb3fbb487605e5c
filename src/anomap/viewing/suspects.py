"""The training images that look unlike the others, as the report shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

from anomap.viewing.pixels import Picture


@dataclass(frozen=True)
class Suspect:
    """One training image."""

    path: str
    role: str  # train, calibration or trimmed
    robust_z: float
    named: bool  # whether it stands out
    picture: Picture


@dataclass(frozen=True)
class Suspects:
    """Those that are shown, the most unlike first."""

    shown: Sequence[Suspect]
    named: int  # how many stand out
    of: int  # training images
    scored: str  # how, in words
    bound: float  # robust z above which an image is named
