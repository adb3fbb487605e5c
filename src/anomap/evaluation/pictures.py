"""What people look at after a run: everything in `figures/`, and `report.html`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from anomap.data.imageset import ImageSet
from anomap.detection.scoring import ScoringModel
from anomap.evaluation.cache_key import versions
from anomap.evaluation.scored_set import ScoredSet, take_pictures
from anomap.runs.folder import RunFolder
from anomap.viewing import figures, grids
from anomap.viewing.report import GALLERY_LIMIT, write_report
from anomap.viewing.selection import gallery_indices, lowest, worst_false_alarms, worst_misses

_MISTAKES = 6  # of each kind
FIGURES = ("score_distribution", "roc", "precision_recall", "attention_maps", "worst_mistakes")


def with_pictures(scored: ScoredSet, detector: ScoringModel, images: ImageSet) -> ScoredSet:
    """Add every image that the figures or the report may show, whatever the threshold will be."""
    scores, abnormal = scored.test.scores, scored.test.labels.astype(bool)
    chosen = {
        *gallery_indices(scores, abnormal, GALLERY_LIMIT),
        *_some_of_each(scored.defects),
        # the worst at any threshold are the first of these
        *lowest(scores, abnormal, _MISTAKES),
        *lowest(-scores, ~abnormal, _MISTAKES),
    }
    return replace(scored, pictures=take_pictures(detector, images, sorted(chosen)))


def write_pictures(
    detector: ScoringModel, scored: ScoredSet, metrics: Mapping[str, Any], config: Mapping[str, Any], run: RunFolder
) -> None:
    """Draw the figures and the report of a test set with pictures, by a detector with its thresholds set."""
    test, pictures, rows = scored.test, scored.pictures, list(scored.rows(metrics["threshold"]))
    scale, threshold = detector.map_scale, detector.pixel_threshold
    shown = _some_of_each(scored.defects)
    mistakes = [*worst_misses(rows, _MISTAKES), *worst_false_alarms(rows, _MISTAKES)]
    drawn = (
        _distribution(detector, scored),
        figures.roc_curve(test.scores, test.labels, detector.threshold),
        figures.precision_recall_curve(test.scores, test.labels, detector.threshold),
        grids.attention_map_grid([rows[i] for i in shown], [pictures[i] for i in shown], scale, threshold),
        grids.worst_mistakes(
            [rows[i] for i in mistakes], [pictures[i] for i in mistakes], scale, threshold, count=_MISTAKES
        ),
    )
    for name, figure in zip(FIGURES, drawn, strict=True):
        figures.save_figure(figure, run.figures / f"{name}.png")
    write_report(
        run.report,
        title=f"{config['model']['name']} on {_name_of(config['data'])}",
        metrics=metrics,
        rows=rows,
        pictures=pictures.get,
        scale=scale,
        pixel_threshold=threshold,
        thresholds=scored.thresholds(metrics["threshold"]),
        config=config,
        versions=versions(),
    )


def remove_pictures(run: RunFolder) -> None:
    """Remove what `write_pictures` has written."""
    for path in (run.report, *(run.figures / f"{name}.png" for name in FIGURES)):
        path.unlink(missing_ok=True)


def _name_of(data: Mapping[str, Any]) -> str:
    """What people call a data set: the name of its folder, or of its kind with the category or class."""
    place = data.get("root") or data.get("abnormal_dir") or data.get("normal_dir")
    if data["name"] == "folder" and place:
        return Path(place).resolve().name
    which = next((data[key] for key in ("category", "normal_class") if data.get(key) is not None), "")
    return f"{data['name']} {which}".strip()


def _distribution(detector: ScoringModel, scored: ScoredSet) -> Figure:
    """Of the test set; without one, of the calibration normals."""
    test = scored.test
    if len(test.scores):
        return figures.score_distribution(test.scores, test.labels, detector.threshold)
    normal = detector.calibration.scores.double().cpu().numpy()
    title = "Anomaly scores of the calibration images (there is no test set)"
    return figures.score_distribution(normal, np.zeros(len(normal)), detector.threshold, title)


def _some_of_each(defects: Sequence[str]) -> list[int]:
    """Four images of each kind (defect type), spread over the set; at most 12, so fewer of many kinds."""
    kinds: dict[str, list[int]] = {}
    for index, defect in enumerate(defects):
        kinds.setdefault(defect, []).append(index)
    each = max(1, min(4, 12 // max(len(kinds), 1)))
    spread = [[kind[len(kind) * i // each] for i in range(min(each, len(kind)))] for kind in kinds.values()]
    return sorted({index for kind in spread for index in kind})[:12]
