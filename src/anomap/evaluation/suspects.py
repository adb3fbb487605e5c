"""Pictures of the training images that look most unlike the others."""

from anomap.data.anomaly_data import AnomalyData
from anomap.detection.scoring import ScoringModel
from anomap.evaluation.scored_set import take_pictures
from anomap.objectives.left_out import OUTLYING
from anomap.runs.suspicious import SUSPICIOUS
from anomap.training.suspicion import TrainingCheck
from anomap.viewing.pixels import Picture
from anomap.viewing.suspects import Suspect, Suspects

SHOWN, LEAST = 24, 6  # images: of those that stand out at most, and where fewer do


def pictures_of(check: TrainingCheck, detector: ScoringModel, data: AnomalyData) -> Suspects:
    """Those that stand out, or the few farthest, with what the calibrated detector shows of them."""
    rows = check.rows[: min(SHOWN, max(LEAST, len(check.suspicious)))]
    found: dict[str, Picture] = {}
    for part in (data.train, data.calibration, data.left_out):
        place = {sample.name: index for index, sample in enumerate(part.samples)}
        chosen = {row.path: place[row.path] for row in rows if row.path in place}
        pictures = take_pictures(detector, part, [*chosen.values()])
        found |= {path: pictures[index] for path, index in chosen.items()}
    shown = [Suspect(row.path, row.role, row.robust_z, row.verdict == SUSPICIOUS, found[row.path]) for row in rows]
    return Suspects(shown, len(check.suspicious), check.of, check.scored, OUTLYING)
