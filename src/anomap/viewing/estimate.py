"""What drawn damage was caught at the threshold, as the table that the report shows."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One kind of damage at one strength."""

    kind: str
    strength: str
    change: float  # mean change where it is visible, share of the range of intensities
    counts: Sequence[tuple[int, int]]  # of each size: how many were caught, of how many
    auroc: float | None

    @property
    def total(self) -> tuple[int, int]:
        """Caught, of how many, over all sizes."""
        return sum(caught for caught, _ in self.counts), sum(of for _, of in self.counts)


@dataclass(frozen=True)
class EstimateTable:
    """Caught damage by kind, strength and size."""

    sizes: Sequence[float]  # longest side, shares of the shorter side of the image, or of a tile, ascending
    pixels: Sequence[int]  # the same, as the detector sees it
    lines: Sequence[Line]

    def caught_from(self, line: Line) -> int | None:
        """The size in px from which on at least half of each size are caught; None where the largest are not."""
        found = None
        for pixels, (caught, of) in reversed(list(zip(self.pixels, line.counts, strict=True))):
            if of and 2 * caught < of:
                break
            found = pixels if of else found
        return found
