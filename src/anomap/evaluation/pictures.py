"""What people look at after a run: everything in `figures/`, and `report.html`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from anomap.detection.scoring import ScoringModel
from anomap.evaluation.cache_key import versions
from anomap.evaluation.chosen import MISTAKES, some_of_each
from anomap.evaluation.estimate import Estimate
from anomap.evaluation.promise import compared
from anomap.evaluation.scored_set import ScoredSet
from anomap.runs.folder import RunFolder
from anomap.runs.scores import ABNORMAL, ScoreRow
from anomap.viewing import figures, grids
from anomap.viewing.pixels import Scale
from anomap.viewing.report import write_report
from anomap.viewing.selection import worst_false_alarms, worst_misses
from anomap.viewing.suspects import Suspects

_ESTIMATE = "Drawn damage, an estimate and no test: of each kind the largest missed and the smallest caught"


def write_pictures(
    detector: ScoringModel,
    scored: ScoredSet,
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
    run: RunFolder,
    estimated: Estimate | None = None,
    suspects: Suspects | None = None,
) -> None:
    """Draw the figures and the report of a test set with pictures, by a detector with its thresholds set.

    Without a test set the report shows `estimated` in its place, called so.
    """
    scale, threshold, tested = (
        (detector.map_scale, detector.pixel_threshold),
        metrics["threshold"],
        len(scored.test.scores) > 0,
    )
    shown = estimated if estimated is not None and not tested else scored
    rows = list(shown.rows(threshold))
    drawn = _of_test(detector, scored, rows, scale) if tested else {}
    if estimated is not None:
        drawn |= _of_estimate(detector, estimated, threshold, scale, tested)
    for name, figure in drawn.items():
        figures.save_figure(figure, run.figures / f"{name}.png")
    write_report(
        run.report,
        title=f"{config['model']['name']} on {_name_of(config['data'])}",
        metrics=metrics,
        rows=rows,
        tested=tested,
        pictures=shown.pictures.get,
        scale=scale[0],
        pixel_threshold=scale[1],
        thresholds=scored.thresholds(threshold) if tested else (),
        estimate=None if estimated is None else estimated.table(threshold),
        drift=found.to_dict() if tested and (found := compared(detector, scored)) and found.images else None,
        suspects=suspects,
        config=config,
        versions=versions(),
    )


def _of_test(
    detector: ScoringModel, scored: ScoredSet, rows: Sequence[ScoreRow], scale: tuple[Scale, float]
) -> dict[str, Figure]:
    """The figures of a test set, by name; `scale` is of the maps' colours, with a pixel's threshold."""
    test, pictures, shown = scored.test, scored.pictures, some_of_each(scored.defects)
    mistakes = [*worst_misses(rows, MISTAKES), *worst_false_alarms(rows, MISTAKES)]
    of_mistakes = [rows[i] for i in mistakes], [pictures[i] for i in mistakes]
    return {
        "score_distribution": figures.score_distribution(test.scores, test.labels, detector.threshold),
        "roc": figures.roc_curve(test.scores, test.labels, detector.threshold),
        "precision_recall": figures.precision_recall_curve(test.scores, test.labels, detector.threshold),
        "attention_maps": grids.attention_map_grid([rows[i] for i in shown], [pictures[i] for i in shown], *scale),
        "worst_mistakes": grids.worst_mistakes(*of_mistakes, *scale, count=MISTAKES),
    }


def _of_estimate(
    detector: ScoringModel, found: Estimate, threshold: float, scale: tuple[Scale, float], tested: bool
) -> dict[str, Figure]:
    """The figures of an estimate: what was found and what was not, and without a test set the scores."""
    rows, chosen, drawn = found.rows(threshold), found.boundary(threshold), {}
    if chosen:
        grid = [rows[i] for i in chosen], [found.pictures[i] for i in chosen]
        drawn["estimate"] = grids.attention_map_grid(*grid, *scale, title=_ESTIMATE)
    if not tested:
        scores, labels = [row.score for row in rows], [row.label == ABNORMAL for row in rows]
        title = "Scores of calibration images" + (" and damaged copies: no test" if any(labels) else ": no test set")
        drawn["score_distribution"] = figures.score_distribution(scores, labels, detector.threshold, title)
    return drawn


def _name_of(data: Mapping[str, Any]) -> str:
    """What people call a data set: the name of its folder, or of its kind with the category or class."""
    place = data.get("root") or data.get("abnormal_dir") or data.get("normal_dir")
    if data["name"] == "folder" and place:
        return Path(place).resolve().name
    which = next((data[key] for key in ("category", "normal_class") if data.get(key) is not None), "")
    return f"{data['name']} {which}".strip()
