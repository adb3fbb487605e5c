"""What trivial methods reach on the same split: to be shown beside every result."""

import torch

from anomap.data.anomaly_data import AnomalyData
from anomap.detection.metrics import auroc
from anomap.detection.scoring import ScoringModel
from anomap.errors import optional
from anomap.evaluation.measure import batches
from anomap.objectives.controls import CHEAP
from anomap.training.clean import CleanBatches


def control_aurocs(data: AnomalyData, size: tuple[int, int], device: torch.device) -> dict[str, float | None]:
    """Image AUROC of the controls that take seconds, at `size` (H, W); None for one that failed, with a line."""
    found: dict[str, float | None] = {}
    for name, control in CHEAP.items():
        found[f"{name}_auroc"] = None
        with optional(name):
            objective = control().to(device)
            objective.learn_statistics(CleanBatches(data, device))
            detector = ScoringModel(objective, size, data.tiling).to(device)
            test = detector.score_all(batches(data.test_dataloader(), detector))
            found[f"{name}_auroc"] = auroc(test.scores, test.labels)
    return found
