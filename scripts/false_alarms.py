"""What the threshold promises and what it keeps, as the Markdown table of docs/results.md.

python scripts/false_alarms.py

Four parts of a score are drawn for n calibration normals and for new normal images, and go through the whole scoring path.
"""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anomap.detection.calibration import conformal_rank
from anomap.detection.scoring import ScoringModel
from anomap.objectives.base import MethodOutput, Objective

PARTS, QUANTILE = 4, 0.95
COUNTS = (2, 3, 4, 5, 9, 19, 38, 59, 99)
NEW = 200  # normal images that each calibration is tried on

Draw = Callable[[np.random.Generator, int], npt.NDArray[np.float32]]


def _light(rng: np.random.Generator, count: int) -> npt.NDArray[np.float32]:
    return rng.standard_normal((count, PARTS), np.float32)


def _heavy(rng: np.random.Generator, count: int) -> npt.NDArray[np.float32]:
    return rng.standard_t(2, (count, PARTS)).astype(np.float32)


TAILS: dict[str, Draw] = {"light": _light, "heavy": _heavy}  # Gaussian; Student's t with 2 degrees of freedom


class Drawn(Objective):
    """A method whose image (B, 1, 2, 2) holds its parts, of very different scales, and is its map."""

    part_names = tuple("abcd")
    scales = (1.0, 100.0, 0.01, 10.0)

    def score(self, images: Tensor) -> MethodOutput:
        """Part k is pixel k, scaled."""
        columns = zip(self.part_names, images.flatten(1).unbind(1), self.scales, strict=True)
        return MethodOutput({name: value * scale for name, value, scale in columns}, images)


def realised(draw: Draw, count: int, trials: int, seed: int = 0) -> tuple[float, float, npt.NDArray[np.float64]]:
    """What the thresholds of `trials` calibrations with `count` normals do to new ones.

    Returns:
        The promised rate of false alarms; the standard error of a realised one; and the realised ones of two promises: an
        image above its threshold, and an image with any pixel above the pixel threshold.
    """
    rng, model = np.random.default_rng(seed), ScoringModel(Drawn(), (2, 2))
    promised, alarms = 1.0, np.empty((trials, 2))
    for trial in alarms:
        images = torch.from_numpy(draw(rng, count + NEW)).view(-1, 1, 2, 2)
        model.calibrate([{"image": images[:count]}])
        threshold = model.set_threshold({"strategy": "quantile", "quantile": QUANTILE})
        assert threshold.promised_fpr is not None
        promised = threshold.promised_fpr
        scores, output = model.score(images[count:])
        peaks = output.anomaly_map.flatten(1).amax(1)
        trial[:] = threshold.decide(scores).mean(), (peaks > model.pixel_threshold).float().mean()
    return promised, float(alarms.std(0, ddof=1).max() / trials**0.5), alarms.mean(0)


def one_set(draw: Draw, count: int, trials: int, seed: int = 0) -> tuple[float, float]:
    """Promised and realised rate when the same normals set scale and threshold, as anomap did at first."""
    rng, alarms = np.random.default_rng(seed), 0.0
    rank = conformal_rank(count, QUANTILE)
    for _ in range(trials):
        parts = draw(rng, count + NEW).astype(np.float64)
        normals = parts[:count]
        scores = ((parts - normals.mean(0)) / normals.std(0)).sum(1)
        alarms += float((scores[count:] > np.sort(scores[:count])[rank - 1]).mean())
    return 1 - rank / (count + 1), alarms / trials


def main(trials: int = 2000) -> None:
    """Print the table."""
    print(
        "| calibration normals | tails | promised | image | map | promised, one set for both | image, one set for both |"
    )
    print("|---:|---|---:|---:|---:|---:|---:|")
    worst = 0.0
    for count in COUNTS:
        for name, draw in TAILS.items():
            promised, error, rates = realised(draw, count, trials)
            old_promise, old = one_set(draw, count, trials)
            worst = max(worst, error)
            numbers = (promised, *rates, old_promise, old)
            print(f"| {count} | {name} | " + " | ".join(f"{number:.3f}" for number in numbers) + " |")
    z = NormalDist().inv_cdf(0.975)
    print(f"\n{trials} calibrations a row, {NEW} new normals each; 95 % intervals are at most ± {z * worst:.3f}.")


if __name__ == "__main__":
    main()
