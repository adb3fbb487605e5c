"""What the monitor of drift says of changed images, and how often it is wrong, as the Markdown tables of docs/results.md.

    python scripts/drift.py CKPT DIR                 # DIR: normal images that neither training nor calibration saw
    python scripts/drift.py CKPT DIR --images 20 --draws 1000

The first table changes every image of DIR: brightness, contrast, blur, shift and JPEG, three strengths each. `said` is of
all of them, and how often it is said of so many drawn at random. The second is the monitor's own rate of false alarms:
draws of undisturbed images against the checkpoint's calibration; and with a calibration that is drawn from DIR, too, so
that the rate is one over calibration sets. Nothing is written.
"""

import argparse
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from anomap import Detector
from anomap.detection.calibration import quantile_threshold
from anomap.detection.drift import Drift, DriftMonitor, Reference, percent
from anomap.prediction.inputs import find_inputs

Pixels = npt.NDArray[np.uint8]
Seen = tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]  # scores (N,), statistics (N, 5)
Change = Callable[[Pixels], Pixels]

PART = 32  # images at a time


def _bytes(values: npt.NDArray[Any]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def brightness(pixels: Pixels, gain: float) -> Pixels:
    """Times `gain`."""
    return _bytes(pixels * gain)


def contrast(pixels: Pixels, gain: float) -> Pixels:
    """Around the image's mean."""
    return _bytes(pixels.mean() + gain * (pixels - pixels.mean()))


def blur(pixels: Pixels, sigma: float) -> Pixels:
    """By a Gaussian, in pixels."""
    return _bytes(ndimage.gaussian_filter(pixels.astype(np.float64), (sigma, sigma, 0)[: pixels.ndim]))


def shift(pixels: Pixels, distance: float) -> Pixels:
    """To the right and down, in pixels; what enters is mirrored."""
    return np.asarray(ndimage.shift(pixels, (distance, distance, 0)[: pixels.ndim], order=0, mode="reflect"), np.uint8)


def jpeg(pixels: Pixels, quality: float) -> Pixels:
    """Saved and read again."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=int(quality))
    return np.asarray(Image.open(buffer))


CHANGES: dict[str, tuple[Callable[[Pixels, float], Pixels], tuple[float, float, float], str]] = {
    "brightness": (brightness, (1.1, 1.2, 1.3), "x {:g}"),
    "contrast": (contrast, (0.8, 0.65, 0.5), "x {:g}"),
    "blur": (blur, (0.5, 1, 2), "sigma {:g} px"),
    "shift": (shift, (2, 8, 32), "{:g} px"),
    "JPEG": (jpeg, (75, 40, 15), "quality {:g}"),
}


def read(path: Path) -> Pixels:
    """(H, W) or (H, W, 3), 8 bits."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))


def seen(detector: Detector, paths: list[Path], change: Change) -> Seen:
    """Scores and statistics of all images, changed."""
    scores, statistics = [], []
    for start in range(0, len(paths), 1 if detector.tiles else PART):
        part = paths[start : start + (1 if detector.tiles else PART)]
        pixels, sizes = zip(*(detector.preprocessing.see_sized(change(read(path))) for path in part), strict=True)
        found, _, table = detector.observe_batch(np.stack(pixels), sizes)
        scores.append(found)
        statistics.append(table)
    return np.concatenate(scores), np.concatenate(statistics)


def compare(reference: Reference, images: Seen, chosen: npt.NDArray[np.int64] | slice = slice(None)) -> Drift:
    """What the monitor says of some images."""
    monitor = DriftMonitor(reference)
    monitor.observe(images[0][chosen], images[1][chosen])
    return monitor.drift()


def draws(rng: np.random.Generator, of: int, count: int, times: int) -> Iterator[npt.NDArray[np.int64]]:
    """Different images each time, none twice."""
    return (rng.permutation(of)[:count] for _ in range(times))


def redrawn(images: Seen, rng: np.random.Generator, count: int, times: int) -> float:
    """How often something is said of `count` images by a calibration that is all the others."""
    said = 0
    for chosen in draws(rng, len(images[0]), len(images[0]), times):
        new, known = chosen[:count], chosen[count:]
        threshold, _ = quantile_threshold(images[0][known], 0.95)
        said += compare(Reference(images[0][known], images[1][known].astype(float), threshold), images, new).changed
    return said / times


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("normals", help="folder of normal images, or a pattern")
    parser.add_argument("--images", type=int, default=20, help="of one draw")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    detector = Detector.load(given.checkpoint, given.device)
    if (reference := detector.reference) is None:
        raise SystemExit(f"{given.checkpoint}: keeps nothing to compare with; train again")
    found = find_inputs(given.normals)
    paths, rng = [found.root / name for name in found.names], np.random.default_rng(given.seed)
    count = min(given.images, len(paths) // 2)

    plain = seen(detector, paths, lambda pixels: pixels)
    print(f"| change | strength | false alarms promised | realised | said | said of {count} | line |")
    print("|---|---|---:|---:|---|---:|---|")
    rows = [("none", "", plain)]
    for name, (change, strengths, unit) in CHANGES.items():
        for strength in strengths:
            changed = seen(detector, paths, lambda pixels, by=strength, change=change: change(pixels, by))
            rows.append((name, unit.format(strength), changed))
    for name, strength, images in rows:
        drift = compare(reference, images)
        said = np.mean(
            [compare(reference, images, chosen).changed for chosen in draws(rng, len(paths), count, given.draws)]
        )
        rates = f"{percent(drift.promised or 0)} | {percent(drift.alarms / drift.images)}"
        print(
            f"| {name} | {strength} | {rates} | {'yes' if drift.changed else 'no'} | {percent(float(said))} | {drift.text} |"
        )
    own = np.mean([compare(reference, plain, chosen).changed for chosen in draws(rng, len(paths), count, given.draws)])
    print(f"\n| undisturbed: {count} of {len(paths)} normals, {given.draws} draws | something is said |\n|---|---:|")
    print(f"| against the checkpoint's {len(reference.statistics)} calibration images | {percent(float(own))} |")
    drawn = redrawn(plain, rng, count, given.draws)
    print(f"| against the other {len(paths) - count}, as if they had calibrated | {percent(drawn)} |")


if __name__ == "__main__":
    main()
