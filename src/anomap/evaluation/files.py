"""What a test set with its scores leaves in a run's folder, after a training and after an evaluation."""

from collections.abc import Mapping
from typing import Any

from anomap.detection.scoring import ScoringModel
from anomap.evaluation.scored_set import ScoredSet
from anomap.runs.folder import RunFolder
from anomap.runs.scores import write_scores, write_thresholds

FIGURES = ("score_distribution", "roc", "precision_recall", "attention_maps", "worst_mistakes", "estimate")


def write_files(
    detector: ScoringModel,
    scored: ScoredSet,
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
    run: RunFolder,
    pictures: bool = True,
) -> None:
    """Write `scores.csv`, `thresholds.csv`, and with `pictures` the figures and the report.

    With `pictures=False`, figures and report of an earlier run are deleted: they show another result. So is its estimate.
    """
    run.estimate.unlink(missing_ok=True)
    write_scores(run.scores, scored.rows(metrics["threshold"]))
    write_thresholds(run.thresholds, scored.thresholds(metrics["threshold"]))
    if pictures:
        from anomap.evaluation.pictures import write_pictures  # matplotlib takes half a second

        write_pictures(detector, scored, metrics, config, run)
    else:
        for path in (run.report, *(run.figures / f"{name}.png" for name in FIGURES)):
            path.unlink(missing_ok=True)
