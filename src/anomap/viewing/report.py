"""The report: one self-contained HTML page to judge a run by, with a threshold that can be moved.

Style, script, data and thumbnails are all inside the file; a content security policy forbids it the network.
A fragment such as `report.html#threshold=0.5` opens it at that threshold.
"""

import base64
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from omegaconf import OmegaConf
from PIL import Image

from anomap.runs.folder import write_atomically
from anomap.runs.scores import ABNORMAL, ScoreRow
from anomap.viewing import palette
from anomap.viewing.figures import Scale, outline, overlay, to_rgb_image
from anomap.viewing.selection import gallery_indices

GALLERY_LIMIT = 120
THUMBNAIL = 224  # longest side, in pixels: 120 images with overlay and mask stay near 4 MB

# Up to this size an image is kept pixel by pixel, lossless, and the browser enlarges it with hard edges.
_SMALL = 96

Pick = Callable[[int], npt.NDArray | None]

_TEMPLATES = Path(__file__).with_name("templates")

# key, name, explanation, how to write it (a number, or a percentage)
_CARDS: tuple[tuple[str, str, str, str], ...] = (
    ("image_auroc", "Image AUROC", "chance 0.5, perfect 1", "number"),
    ("image_ap", "Average precision", "area under precision and recall", "number"),
    ("image_f1", "F1", "at the stored threshold", "number"),
    ("test_tpr", "Caught", "of abnormal test images", "percent"),
    ("test_fpr", "False alarms", "of normal test images", "percent"),
    ("calibration_fpr", "Calibration alarms", "of the normals that set the threshold", "percent"),
    ("pixel_auroc", "Pixel AUROC", "chance 0.5, perfect 1", "number"),
    ("pixel_ap", "Pixel AP", "area under precision and recall", "number"),
    ("pixel_aupro", "AUPRO", "per-region overlap, FPR up to 0.3", "number"),
)
_FACTS = ("model", "data", "augmentation", "image_size", "epochs", "seed")


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    metrics: Mapping[str, Any],
    rows: Sequence[ScoreRow],
    images: Pick | None = None,
    maps: Pick | None = None,
    masks: Pick | None = None,
    scale: Scale | None = None,
    pixel_threshold: float | None = None,
    thresholds: Sequence[Mapping[str, float | None]] = (),
    config: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
    limit: int = GALLERY_LIMIT,
) -> None:
    """Write the report atomically.

    Args:
        path: where to, usually `report.html` in the run's folder.
        title: the heading.
        metrics: the content of `metrics.json`; whatever is missing or None is left out.
        rows: the lines of `scores.csv`, at least one; one class alone is fine.
        images: row index -> uint8 (C, H, W), or None where there is no image.
        maps: row index -> anomaly map (H, W) or (1, H, W) of the image's size, or None.
        masks: row index -> mask (H, W) or (1, H, W), 1 = abnormal, or None.
        scale: range of the map's colours, the same for all images; by default that of the maps shown.
        pixel_threshold: outlined in the overlays.
        thresholds: the lines of `thresholds.csv`, shown as a table; that of the rows' threshold is marked.
        config: the run's configuration, shown as YAML.
        versions: package -> version.
        limit: thumbnails at most; each of `images`, `maps` and `masks` is called only for these rows.

    Raises:
        ValueError: there are no rows, or a score is not finite.
    """
    if not rows or not all(math.isfinite(row.score) and math.isfinite(row.threshold) for row in rows):
        raise ValueError("a report needs at least one row, and finite scores")
    scores, abnormal = np.array([row.score for row in rows]), np.array([row.label == ABNORMAL for row in rows])
    chosen = gallery_indices(scores, abnormal, limit) if images is not None else []
    planes = {i: plane for i in chosen if maps is not None and (plane := maps(i)) is not None}
    if scale is None and planes:
        scale = _common_scale(list(planes.values()))
    gallery = [entry for i in chosen if (entry := _thumbnails(i, images, planes.get(i), masks, scale, pixel_threshold))]
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html.j2").render(
        title=title,
        cards=_cards(metrics),
        facts=[(key.replace("_", " "), metrics[key]) for key in _FACTS if metrics.get(key) is not None],
        warnings=_warnings(metrics),
        metrics=metrics,
        n_rows=len(rows),
        n_gallery=len(gallery),
        n_abnormal=sum(row.label == ABNORMAL for row in rows),
        thresholds=thresholds,
        threshold=rows[0].threshold,
        scale=scale if planes else None,
        has_maps=bool(planes),
        has_masks=any("mask" in entry for entry in gallery),
        config=OmegaConf.to_yaml(OmegaConf.create(dict(config))) if config else "",
        versions=versions or {},
        palette=palette,
        data=_script_json(_data(rows, gallery)),
        style=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup((_TEMPLATES / "report.js").read_text(encoding="utf-8")),
    )
    write_atomically(path, page.encode("utf-8", "replace"))  # bytes of a name that are no text become a mark


def _script_json(value: object) -> Markup:
    """JSON that cannot end its script element, whatever the file names in it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _data(rows: Sequence[ScoreRow], gallery: list[dict[str, Any]]) -> dict[str, Any]:
    """Columns rather than objects: a quarter of the size."""
    defects = sorted({row.defect for row in rows})
    number = {defect: position for position, defect in enumerate(defects)}
    return {
        "threshold": rows[0].threshold,
        "paths": [row.path for row in rows],
        "labels": "".join("1" if row.label == ABNORMAL else "0" for row in rows),
        "defects": defects,
        "defect": [number[row.defect] for row in rows],
        "scores": [row.score for row in rows],
        "gallery": gallery,
    }


def _cards(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    cards = []
    for key, name, meaning, style in _CARDS:
        value = metrics.get(key)
        if value is None:
            continue
        low, high = metrics.get(f"{key}_low"), metrics.get(f"{key}_high")
        if low is not None and high is not None:
            meaning = f"95 % interval {low:.3f} to {high:.3f}"
        text = f"{100 * value:.1f} %" if style == "percent" else f"{value:.3f}"
        cards.append({"key": key, "name": name, "value": text, "meaning": meaning})
    return cards


def _warnings(metrics: Mapping[str, Any]) -> list[str]:
    warnings = []
    strategy = str(metrics.get("threshold_strategy") or "")
    if strategy.startswith("oracle"):
        warnings.append(
            f"The threshold ({strategy}) was chosen with the test labels: F1, caught and false alarms are an "
            "upper bound, not a result."
        )
    elif metrics.get("threshold_note"):
        warnings.append(f"Threshold: {metrics['threshold_note']}.")
    auroc = metrics.get("image_auroc")
    if auroc is not None and auroc < 0.5:
        warnings.append("The ranking is worse than chance: normal images score higher. No sign was flipped.")
    if metrics.get("n_test_abnormal") == 0 or metrics.get("n_test_normal") == 0:
        warnings.append("The test set holds one class only: whatever compares the two classes is left out.")
    return warnings


def _common_scale(planes: Sequence[npt.NDArray]) -> Scale:
    low, high = np.quantile(np.concatenate([np.ravel(plane) for plane in planes]), (0.01, 0.998))
    return float(low), float(high if high > low else low + 1)


def _thumbnails(
    index: int,
    images: Pick | None,
    plane: npt.NDArray | None,
    masks: Pick | None,
    scale: Scale | None,
    pixel_threshold: float | None,
) -> dict[str, Any] | None:
    image = images(index) if images is not None else None
    if image is None:
        return None
    rgb = to_rgb_image(image)
    entry: dict[str, Any] = {"row": index, "small": max(rgb.shape[:2]) <= _SMALL, "image": _data_uri(rgb)}
    if plane is not None and scale is not None:
        entry["map"] = _data_uri(overlay(image, plane, scale, pixel_threshold))
    mask = masks(index) if masks is not None else None
    if mask is not None and np.any(mask):
        entry["mask"] = _data_uri(_marked(rgb, np.asarray(mask).reshape(rgb.shape[:2]) > 0))
    return entry


def _marked(rgb: npt.NDArray[np.uint8], region: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Dim what is outside the region and outline it."""
    marked = np.where(region[..., None], rgb, rgb // 2 + 16).astype(np.uint8)
    marked[outline(region)] = palette.rgb(palette.CONTOUR)
    return marked


def _data_uri(rgb: npt.NDArray[np.uint8]) -> str:
    picture = Image.fromarray(rgb)
    small = max(picture.size) <= _SMALL
    picture.thumbnail((THUMBNAIL, THUMBNAIL))  # never enlarges
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=small, quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
