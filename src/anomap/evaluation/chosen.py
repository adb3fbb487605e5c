"""Which images of a test set the figures and the report may show, whatever the threshold will be."""

from collections.abc import Sequence
from dataclasses import replace

from anomap.data.imageset import ImageSet
from anomap.detection.scoring import ScoringModel
from anomap.evaluation.scored_set import ScoredSet, take_pictures
from anomap.viewing.selection import GALLERY_LIMIT, gallery_indices, lowest

MISTAKES = 6  # of each kind
_PHOTOGRAPHS = 24  # in the gallery at most where each is tiled, since all are scored once more to be seen


def with_pictures(scored: ScoredSet, detector: ScoringModel, images: ImageSet) -> ScoredSet:
    """Add their pictures."""
    scores, abnormal = scored.test.scores, scored.test.labels.astype(bool)
    chosen = {
        *gallery_indices(scores, abnormal, GALLERY_LIMIT if detector.tiling is None else _PHOTOGRAPHS),
        *some_of_each(scored.defects),
        # the worst at any threshold are the first of these
        *lowest(scores, abnormal, MISTAKES),
        *lowest(-scores, ~abnormal, MISTAKES),
    }
    return replace(scored, pictures=take_pictures(detector, images, sorted(chosen)))


def some_of_each(defects: Sequence[str]) -> list[int]:
    """Four images of each kind (defect type), spread over the set; at most 12, so fewer of many kinds."""
    kinds: dict[str, list[int]] = {}
    for index, defect in enumerate(defects):
        kinds.setdefault(defect, []).append(index)
    each = max(1, min(4, 12 // max(len(kinds), 1)))
    spread = [[kind[len(kind) * i // each] for i in range(min(each, len(kind)))] for kind in kinds.values()]
    return sorted({index for kind in spread for index in kind})[:12]
