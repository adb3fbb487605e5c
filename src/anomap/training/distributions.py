"""How the scores of an epoch are distributed, for TensorBoard's tabs of histograms and PR curves."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata


def log_distributions(
    writer: Any, step: int, calibration: npt.NDArray, scores: npt.NDArray, labels: npt.NDArray
) -> None:
    """Write scores of calibration normals (M,) and of test images (N,) with labels, at a step of a `SummaryWriter`.

    TensorBoard wants probabilities for a PR curve. It gets ranks, which any order of scores has, and which make the curve
    exact to its 127 points.
    """
    kinds = {
        "calibration normal": calibration,
        "test normal": scores[labels == 0],
        "test abnormal": scores[labels == 1],
    }
    for name, values in kinds.items():
        if values.size:
            writer.add_histogram(f"scores/{name}", values, step)
    if np.unique(labels).size == 2:
        writer.add_pr_curve("precision and recall/test (monitoring)", labels, rankdata(scores) / len(scores), step)
