"""What people look at after a run: everything in `figures/`, and `report.html`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from anomap.detection.scoring import ScoringModel
from anomap.evaluation.scored_set import ScoredSet
from anomap.evaluation.versions import versions
from anomap.runs.folder import RunFolder
from anomap.runs.scores import ScoreRow
from anomap.viewing import figures, grids
from anomap.viewing.report import GALLERY_LIMIT, write_report
from anomap.viewing.selection import gallery_indices, lowest, worst_false_alarms, worst_misses

_MISTAKES = 6  # of each kind
FIGURES = ("score_distribution", "roc", "precision_recall", "attention_maps", "worst_mistakes")


def worth_showing(scored: ScoredSet) -> list[int]:
    """Every image that the figures or the report may show, whatever the threshold will be; ascending."""
    scores, abnormal = scored.test.scores, scored.test.labels.astype(bool)
    return sorted(
        {
            *gallery_indices(scores, abnormal, GALLERY_LIMIT),
            *_some_of_each(scored.defects, 4),
            # the worst at any threshold are the first of these
            *lowest(scores, abnormal, _MISTAKES),
            *lowest(-scores, ~abnormal, _MISTAKES),
        }
    )


def write_pictures(
    detector: ScoringModel,
    scored: ScoredSet,
    rows: Sequence[ScoreRow],
    table: Sequence[Mapping[str, float | None]],
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
    run: RunFolder,
) -> None:
    """Draw.

    Args:
        detector: with its thresholds set.
        scored: with pictures.
        rows: the lines of `scores.csv`.
        table: the lines of `thresholds.csv`.
        metrics: the content of `metrics.json`.
        config: the whole configuration.
        run: where to.
    """
    threshold, scale = detector.threshold, detector.map_scale
    test, pictures = scored.test, scored.pictures
    shown = _some_of_each(scored.defects, 4)
    mistakes = [*worst_misses(rows, _MISTAKES), *worst_false_alarms(rows, _MISTAKES)]
    drawn: dict[str, Figure] = {
        "score_distribution": _distribution(detector, scored),
        "roc": figures.roc_curve(test.scores, test.labels, threshold),
        "precision_recall": figures.precision_recall_curve(test.scores, test.labels, threshold),
        "attention_maps": grids.attention_map_grid(
            [rows[i] for i in shown], [pictures[i] for i in shown], scale, detector.pixel_threshold
        ),
        "worst_mistakes": grids.worst_mistakes(
            [rows[i] for i in mistakes],
            [pictures[i] for i in mistakes],
            scale,
            detector.pixel_threshold,
            count=_MISTAKES,
        ),
    }
    run.figures.mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        figures.save_figure(figure, run.figures / f"{name}.png")
    write_report(
        run.report,
        title=f"{config['model']['name']} on {config['data']['name']}",
        metrics=metrics,
        rows=rows,
        pictures=pictures.get,
        scale=scale,
        pixel_threshold=detector.pixel_threshold,
        thresholds=table,
        config=config,
        versions=versions(),
    )


def _distribution(detector: ScoringModel, scored: ScoredSet) -> Figure:
    """Of the test set; without one, of the calibration normals."""
    test = scored.test
    if len(test.scores):
        return figures.score_distribution(test.scores, test.labels, detector.threshold)
    normal = detector.calibration.scores.double().cpu().numpy()
    title = "Anomaly scores of the calibration images (there is no test set)"
    return figures.score_distribution(normal, np.zeros(len(normal)), detector.threshold, title)


def remove_pictures(run: RunFolder) -> None:
    """Remove what `write_pictures` has written."""
    for path in (run.report, *(run.figures / f"{name}.png" for name in FIGURES)):
        path.unlink(missing_ok=True)


def _some_of_each(defects: Sequence[str], count: int) -> list[int]:
    """`count` images of each kind (defect type), spread over the set; at most 12."""
    kinds: dict[str, list[int]] = {}
    for index, defect in enumerate(defects):
        kinds.setdefault(defect, []).append(index)
    each = max(1, min(count, 12 // max(len(kinds), 1)))
    spread = [[kind[len(kind) * i // each] for i in range(min(each, len(kind)))] for kind in kinds.values()]
    return sorted({index for kind in spread for index in kind})[:12]
