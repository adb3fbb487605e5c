"""A test image as people see it: arrays in, colours out, for figures, report and overlays alike.

All images compared share one scale for their anomaly maps: stretching each map by itself makes normal images look hot.
"""

from dataclasses import dataclass

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from anomap.viewing import palette

Pixels = npt.NDArray[np.uint8]
Scale = tuple[float, float]  # anomalies that are drawn fully clear and fully hot

VIEWS = ("image", "attention map", "anomaly map", "overlay", "truth", "restored")

_CALM = 2  # exponent of the heat: slight, everyday anomaly leaves no haze
_OPAQUE = 0.75  # of the hottest pixels
_OUTLINE = 1 / 150  # width of an outline, of the image's longer side


@dataclass(frozen=True)
class Picture:
    """One test image with what a method says of it. Maps are (1, H, W) or (H, W)."""

    image: Pixels  # (C, H, W)
    anomaly_map: npt.NDArray[np.floating]  # higher = more abnormal
    mask: npt.NDArray | None = None  # ground truth of any size (1, h, w) or (h, w), not 0 = abnormal
    attention_map: npt.NDArray[np.floating] | None = None  # in [0, 1], 1 = normal
    restored: Pixels | None = None  # (C, H, W), the image as the method thinks it should be


def views(picture: Picture, scale: Scale, threshold: float | None = None) -> dict[str, Pixels]:
    """All there is to see of an image, as name (of `VIEWS`, in that order) -> (H, W, 3).

    `anomaly map` is there only without an attention map, `truth` and `restored` only if the picture has them. The truth
    is drawn like the map: dark on white beside an attention map, bright on black beside an anomaly map. `scale` is of
    the anomaly map; the overlay outlines pixels above `threshold`.
    """
    rgb = to_rgb_image(picture.image)
    shown = {"image": rgb}
    attention = picture.attention_map
    if attention is None:
        shown["anomaly map"] = _coloured(heat(_plane(picture.anomaly_map, rgb), scale), palette.HEAT)
    else:
        shown["attention map"] = _coloured(_plane(attention, rgb), palette.ATTENTION)
    shown["overlay"] = overlay(picture.image, picture.anomaly_map, scale, threshold)
    if picture.mask is not None:
        mask = Image.fromarray(np.squeeze(picture.mask) != 0)
        abnormal = np.asarray(mask.resize((rgb.shape[1], rgb.shape[0]), Image.Resampling.NEAREST))
        shown["truth"] = _coloured(abnormal if attention is None else ~abnormal, palette.ATTENTION)
    if picture.restored is not None:
        shown["restored"] = to_rgb_image(picture.restored)
    return shown


def overlay(image: Pixels, anomaly_map: npt.NDArray, scale: Scale, threshold: float | None = None) -> Pixels:
    """Lay a map (1, H, W) or (H, W) over an image (C, H, W) or (H, W): the normal stays, the abnormal glows -> (H, W, 3).

    Pixels above the threshold are outlined. Raises ValueError if the map is of another size, or the scale empty.
    """
    rgb = to_rgb_image(image)
    plane = _plane(anomaly_map, rgb)
    strength = heat(plane, scale)[..., None]
    # the darkest third of the colours would darken the image instead of marking it
    colours = _coloured(1 / 3 + strength[..., 0] * 2 / 3, palette.HEAT)
    blended = np.rint(rgb * (1 - _OPAQUE * strength) + colours * _OPAQUE * strength).astype(np.uint8)
    if threshold is not None:
        region, width = plane > threshold, max(1, round(_OUTLINE * max(plane.shape)))
        grown = ndimage.binary_dilation(region, np.ones((3, 3)), iterations=width)
        blended[grown & ~region] = palette.rgb(palette.CONTOUR)  # outside: a defect of one pixel stays visible
    return blended


def above(image: Pixels, overlay: Pixels) -> Pixels:
    """Put an image (H, W, 3) above its overlay of the same size, a white line between them."""
    line = np.full((max(1, len(image) // 50), *image.shape[1:]), 255, np.uint8)
    return np.concatenate([image, line, overlay])


def heat(plane: npt.NDArray, scale: Scale) -> npt.NDArray[np.float64]:
    """Anomalies -> [0, 1]: 0 up to the scale's lower end, 1 from its upper end on, and slow to rise in between."""
    low, high = scale
    if not low < high:
        raise ValueError(f"the scale must ascend, not {scale}")
    return np.clip((plane - low) / (high - low), 0, 1) ** _CALM


def to_rgb_image(image: Pixels) -> Pixels:
    """Make (H, W, 3) uint8 of a stored image (C, H, W) or (H, W); other than 3 channels become their mean."""
    planes = image.reshape(-1, *image.shape[-2:])
    if len(planes) != 3:
        planes = np.rint(planes.mean(axis=0, keepdims=True)).astype(np.uint8).repeat(3, axis=0)
    return np.moveaxis(planes, 0, -1).copy()


def _coloured(values: npt.NDArray, colours: str) -> Pixels:
    """[0, 1] (H, W) -> (H, W, 3)."""
    return matplotlib.colormaps[colours](np.asarray(values, np.float64), bytes=True)[..., :3]


def _plane(values: npt.NDArray, rgb: Pixels) -> npt.NDArray[np.float64]:
    plane = np.asarray(values, np.float64)
    plane = plane[0] if plane.ndim == 3 and plane.shape[0] == 1 else plane
    if plane.shape != rgb.shape[:2]:
        raise ValueError(f"a map of {plane.shape} does not fit an image of {rgb.shape[:2]}")
    return plane
