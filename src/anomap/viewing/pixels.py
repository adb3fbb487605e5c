"""A test image as people see it: arrays in, colours out. Figures, report and overlays all draw with these functions.

Anomaly maps are drawn on a scale that is the same for all images compared: stretching each map by itself makes every
normal image look hot.
"""

from dataclasses import dataclass

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from anomap.viewing import palette

Pixels = npt.NDArray[np.uint8]
Scale = tuple[float, float]  # anomaly that is drawn clear, and anomaly that is drawn hot

VIEWS = ("image", "attention map", "anomaly map", "overlay", "truth", "restored")

_CALM = 2  # exponent of the heat: slight, everyday anomaly leaves no haze
_OPAQUE = 0.75  # of the hottest pixels
_OUTLINE = 1 / 150  # width of an outline, of the image's longer side


@dataclass(frozen=True)
class Picture:
    """One test image with what a method says of it.

    Attributes:
        image: uint8 (C, H, W).
        anomaly_map: (1, H, W) or (H, W), higher = more abnormal.
        mask: (1, h, w) or (h, w), not 0 = abnormal, of any size; None without ground truth.
        attention_map: (1, H, W) or (H, W) in [0, 1], 1 = normal; None where the method has none.
        restored: uint8 (C, H, W), the image as the method thinks it should be; None where the method makes none.
    """

    image: Pixels
    anomaly_map: npt.NDArray[np.floating]
    mask: npt.NDArray | None = None
    attention_map: npt.NDArray[np.floating] | None = None
    restored: Pixels | None = None


def views(picture: Picture, scale: Scale, threshold: float | None = None) -> dict[str, Pixels]:
    """All there is to see of an image, as name -> (H, W, 3) uint8, in the order in which to show it.

    The names are those of `VIEWS`: `anomaly map` only where the method has no attention map, `truth` and `restored` only if
    the picture has them. Map and truth are drawn alike, so that they can be compared: dark on white beside an
    attention map, bright on black beside an anomaly map.

    Args:
        picture: what to show.
        scale: of the anomaly map, the same for all images compared.
        threshold: of a pixel; the overlay outlines what is above it.
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
        abnormal = _resized(np.squeeze(picture.mask) != 0, rgb)
        shown["truth"] = _coloured(abnormal if attention is None else ~abnormal, palette.ATTENTION)
    if picture.restored is not None:
        shown["restored"] = to_rgb_image(picture.restored)
    return shown


def overlay(image: Pixels, anomaly_map: npt.NDArray, scale: Scale, threshold: float | None = None) -> Pixels:
    """Lay an anomaly map over its image: what is normal stays as it is, what is abnormal glows.

    Args:
        image: (C, H, W) or (H, W) uint8.
        anomaly_map: (1, H, W) or (H, W).
        scale: anomalies that are fully transparent and fully hot, the same for all images compared.
        threshold: pixels above it are outlined.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: the map is of another size, or the scale is empty.
    """
    rgb = to_rgb_image(image)
    plane = _plane(anomaly_map, rgb)
    strength = heat(plane, scale)[..., None]
    # The darkest third of the colours would darken the image instead of marking it.
    colours = _coloured(1 / 3 + strength[..., 0] * 2 / 3, palette.HEAT)
    blended = np.rint(rgb * (1 - _OPAQUE * strength) + colours * _OPAQUE * strength).astype(np.uint8)
    if threshold is not None:
        blended[outline(plane > threshold)] = palette.rgb(palette.CONTOUR)
    return blended


def above(image: Pixels, overlay: Pixels) -> Pixels:
    """Put an image (H, W, 3) above its overlay of the same size, a white line between them."""
    line = np.full((max(1, len(image) // 50), *image.shape[1:]), 255, np.uint8)
    return np.concatenate([image, line, overlay])


def heat(plane: npt.NDArray, scale: Scale) -> npt.NDArray[np.float64]:
    """Anomalies -> [0, 1]: 0 up to the scale's lower end, 1 from its upper end on, and slow to rise in between.

    Raises:
        ValueError: the scale is empty.
    """
    low, high = scale
    if not low < high:
        raise ValueError(f"the scale must ascend, not {scale}")
    return np.clip((plane - low) / (high - low), 0, 1) ** _CALM


def outline(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """A line around a region (H, W), outside of it: a defect of one pixel stays visible within."""
    width = max(1, round(_OUTLINE * max(region.shape)))
    grown = ndimage.binary_dilation(region, np.ones((3, 3)), iterations=width)
    return np.logical_and(grown, ~region)


def to_rgb_image(image: Pixels) -> Pixels:
    """Make (H, W, 3) uint8 of a stored image (C, H, W) or (H, W); other than 3 channels become their mean."""
    if image.ndim == 2:
        image = image[None]
    if image.shape[0] != 3:
        image = np.rint(image.mean(axis=0, keepdims=True)).astype(np.uint8)
    return np.broadcast_to(np.moveaxis(image, 0, -1), (*image.shape[1:], 3)).copy()


def _coloured(values: npt.NDArray, colours: str) -> Pixels:
    """[0, 1] (H, W) -> (H, W, 3)."""
    return matplotlib.colormaps[colours](np.asarray(values, np.float64), bytes=True)[..., :3]


def _plane(values: npt.NDArray, rgb: Pixels) -> npt.NDArray[np.float64]:
    plane = np.asarray(values, np.float64)
    plane = plane[0] if plane.ndim == 3 and plane.shape[0] == 1 else plane
    if plane.shape != rgb.shape[:2]:
        raise ValueError(f"a map of {plane.shape} does not fit an image of {rgb.shape[:2]}")
    return plane


def _resized(region: npt.NDArray[np.bool_], rgb: Pixels) -> npt.NDArray[np.bool_]:
    size = (rgb.shape[1], rgb.shape[0])
    return np.asarray(Image.fromarray(region).resize(size, Image.Resampling.NEAREST))
