"""The report: one self-contained HTML page to judge a run by, with a threshold that can be moved.

A content security policy forbids it the network. `report.html#threshold=0.5` opens it at that threshold.
"""

import base64
import io
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from PIL import Image

from anomap.intervals import rate_interval
from anomap.runs.folder import write_atomically
from anomap.runs.scores import ABNORMAL, ScoreRow
from anomap.viewing.axis import score_axis
from anomap.viewing.estimate import EstimateTable
from anomap.viewing.html import render, source
from anomap.viewing.pixels import VIEWS, Picture, Pixels, Scale, views
from anomap.viewing.selection import GALLERY_LIMIT, gallery_indices
from anomap.viewing.suspects import Suspects

THUMBNAIL = 224  # longest side, in pixels: 120 images in five views stay near 5 MB
_ZOOMED = (
    "image",
    "anomaly map",
    "overlay",
    "truth",
)  # views of the piece of a large photograph, at its own resolution
_SMALL = 96  # up to this side an image is stored lossless, and the browser enlarges it with hard edges

# key, name, explanation, how to write it: a number, a percentage, or so many in a thousand
_CARDS: tuple[tuple[str, str, str, str], ...] = (
    ("image_auroc", "Image AUROC", "chance 0.5, perfect 1", "number"),
    ("image_ap", "Average precision", "area under precision and recall", "number"),
    ("image_f1", "F1", "at the stored threshold", "number"),
    ("test_tpr", "Caught", "of abnormal test images", "percent"),
    ("test_fpr", "Expected false alarms", "in 1,000 good parts", "thousand"),
    ("promised_fpr", "Promised false alarms", "at most, on average over calibration sets", "thousand"),
    ("calibration_fpr", "Calibration alarms", "of the normals that set the threshold", "percent"),
    ("estimate_tpr", "Estimated caught", "of drawn damage; an estimate, not a test", "percent"),
    ("estimate_auroc", "Estimated AUROC", "of drawn damage; an estimate, not a test", "number"),
    ("pixel_auroc", "Pixel AUROC", "chance 0.5, perfect 1", "number"),
    ("pixel_ap", "Pixel AP", "area under precision and recall", "number"),
    ("pixel_aupro", "AUPRO", "per-region overlap, FPR up to 0.3", "number"),
)
_FACTS = ("augmentation", "image_size", "epochs", "seed")  # model and data are in the title


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    metrics: Mapping[str, Any],
    rows: Sequence[ScoreRow],
    tested: bool = True,
    pictures: Callable[[int], Picture | None] | None = None,
    scale: Scale = (0.0, 1.0),
    pixel_threshold: float | None = None,
    thresholds: Sequence[Mapping[str, float | None]] = (),
    estimate: EstimateTable | None = None,
    drift: Mapping[str, Any] | None = None,
    suspects: Suspects | None = None,
    config: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
    limit: int = GALLERY_LIMIT,
) -> None:
    """Write the report atomically.

    `metrics` are those of `metrics.json`, `rows` and `thresholds` the lines of `scores.csv` and `thresholds.csv`; what is
    missing or None is left out. `pictures` gives what there is to see of a row, by its index, for at most `limit` rows.
    With `tested=False` the rows are no test set, but calibration normals and damaged copies of them; `estimate` sums up
    what was caught of such copies. `drift` compares the test normals with calibration (`Drift.to_dict`), `suspects` are the
    training images that stand out. `scale` is the range of all anomaly maps' colours; the overlays outline pixels above
    `pixel_threshold`.

    Raises:
        ValueError: a score is not finite.
    """
    if not all(math.isfinite(row.score) and math.isfinite(row.threshold) for row in rows):
        raise ValueError("a report needs finite scores")
    scores, abnormal = np.array([row.score for row in rows]), np.array([row.label == ABNORMAL for row in rows])
    chosen = gallery_indices(scores, abnormal, limit) if tested else range(len(rows))  # those that have a picture
    seen = ((index, pictures(index)) for index in chosen) if pictures else ()
    gallery = [_thumbnails(index, shown, scale, pixel_threshold) for index, shown in seen if shown is not None]
    page = render(
        "report.html.j2",
        title=title,
        cards=_cards(metrics),
        areas=_areas(metrics),
        facts=[(key.replace("_", " "), metrics[key]) for key in _FACTS if metrics.get(key) is not None],
        warnings=_warnings(metrics),
        metrics=metrics,
        tested=tested,
        estimate=estimate,
        drift=drift,
        suspects=suspects,
        suspect_images=[_thumbnails(0, one.picture, scale, pixel_threshold) for one in suspects.shown]
        if suspects
        else [],
        n_rows=len(rows),
        n_gallery=len(gallery),
        n_abnormal=int(abnormal.sum()),
        thresholds=thresholds,
        threshold=rows[0].threshold if rows else None,
        scale=scale,
        pixel_threshold=pixel_threshold,
        views=[view for view in VIEWS if any(view in entry for entry in gallery)],
        config=OmegaConf.to_yaml(OmegaConf.create(dict(config))) if config else "",
        versions=versions or {},
        data=_data(rows, gallery, metrics.get("promised_fpr"), tested) if rows else None,
        style=source("report.css"),
        script=source("report.js"),
    )
    write_atomically(path, page.encode("utf-8", "replace"))  # bytes of a name that are no text become a mark


def _data(
    rows: Sequence[ScoreRow], gallery: list[dict[str, Any]], promised: float | None, tested: bool
) -> dict[str, Any]:
    """Columns rather than objects: a quarter of the size. There are intervals of a test set only: copies are not independent."""
    defects = sorted({row.defect for row in rows})
    number = {defect: position for position, defect in enumerate(defects)}
    scores, normal = np.array([row.score for row in rows]), np.array([row.label != ABNORMAL for row in rows])
    axis = score_axis(scores, normal, rows[0].threshold)
    sizes = {
        len(rows) - int(normal.sum()),
        int(normal.sum()),
        *Counter((row.label, row.defect) for row in rows).values(),
    }
    return {
        "threshold": rows[0].threshold,
        "promised": promised,
        "paths": [row.path for row in rows],
        "labels": "".join("1" if row.label == ABNORMAL else "0" for row in rows),
        "defects": defects,
        "defect": [number[row.defect] for row in rows],
        "scores": scores.tolist(),
        "axis": {**asdict(axis), "ticks": [] if axis.width is None else axis.ticks()},
        # of each group of n images: upper ends of the intervals of 0 to n of them; the lower ones mirror them
        "upper": {n: [round(rate_interval(count, n).high, 4) for count in range(n + 1)] for n in sizes if n and tested},
        "gallery": gallery,
    }


def _cards(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    cards = []
    for key, name, meaning, style in _CARDS:
        value, low, high = (metrics.get(f"{key}{end}") for end in ("", "_low", "_high"))
        if value is None:
            continue
        if low is not None and high is not None:
            bounds = f"95 % interval {_written(low, style)} to {_written(high, style)}"
            meaning = bounds if style == "number" else f"{meaning}; {bounds}"
        unit = " %" if style == "percent" else ""
        cards.append({"key": key, "name": name, "value": _written(value, style) + unit, "meaning": meaning})
    return cards


def _written(value: float, style: str) -> str:
    if style == "number":
        return f"{value:.3f}"
    if style == "percent":
        return f"{100 * value:.1f}"
    return f"{1000 * value:,.{0 if value == 0 or value >= 0.01 else 1}f}"


def _areas(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The AUROC of the detector, of its score's parts, and of the controls: name, kind, value, and an interval."""
    found = []
    for key, value in metrics.items():
        kind = next((kind for kind in ("image", "part", "control") if key.startswith(f"{kind}_")), None)
        if kind is None or not key.endswith("_auroc") or value is None:
            continue
        name = key.removeprefix(f"{kind}_").removesuffix("_auroc").replace("_", " ")
        text = {"image": "this detector", "part": f"its {name} alone", "control": f"control: {name}"}[kind]
        low, high = (metrics.get(f"{key}{end}", value) for end in ("_low", "_high"))
        found.append({"name": text, "kind": kind, "value": value, "low": low, "high": high})
    order = ("image", "part", "control")
    return sorted(found, key=lambda area: (order.index(area["kind"]), -area["value"])) if len(found) > 1 else []


def _warnings(metrics: Mapping[str, Any]) -> list[str]:
    strategy, note, auroc = (metrics.get(key) for key in ("threshold_strategy", "threshold_note", "image_auroc"))
    sizes = metrics.get("n_test_normal"), metrics.get("n_test_abnormal")
    warnings = []
    if str(strategy).startswith("oracle"):
        bound = "F1, caught and false alarms are an upper bound, not a result."
        warnings.append(f"The threshold ({strategy}) was chosen with the test labels: {bound}")
    elif note:
        warnings.append(f"Threshold: {note}.")
    if broken := metrics.get("promise_note"):
        warnings.append(f"Promise not kept: {broken}.")
    if auroc is not None and auroc < 0.5:
        warnings.append("The ranking is worse than chance: normal images score higher. No sign was flipped.")
    if pixels := metrics.get("pixel_note"):
        warnings.append(f"Masks: {pixels}.")
    if sizes == (0, 0):
        estimated = metrics.get("estimate_tpr") is not None
        rest = " What is said of drawn damage below is an estimate." if estimated else ""
        warnings.append(f"There is no test set: what this detector finds has not been measured.{rest}")
    elif 0 in sizes:
        warnings.append("The test set holds one class only: whatever compares the two classes is left out.")
    return warnings


def _thumbnails(index: int, picture: Picture, scale: Scale, pixel_threshold: float | None) -> dict[str, Any]:
    """One entry of the gallery."""
    pixels = views(picture, scale, pixel_threshold, THUMBNAIL)
    small = max(pixels["image"].shape[:2]) <= _SMALL
    entry = {"row": index, "small": small, **{name: _data_uri(rgb, small) for name, rgb in pixels.items()}}
    if picture.zoom is None or picture.zoom.place is None:
        return entry
    zoomed = views(picture.zoom, scale, pixel_threshold)
    uris = {name: _data_uri(zoomed[name], False) for name in _ZOOMED if name in zoomed}
    return {**entry, "zoom": {**uris, "place": [round(float(share), 4) for share in picture.zoom.place]}}


def _data_uri(rgb: Pixels, small: bool) -> str:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "WEBP", lossless=small, quality=80, use_sharp_yuv=True)  # thin lines
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
