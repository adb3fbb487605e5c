"""A test image as people see it: arrays in, colours out, for figures, report and overlays alike.

Hot is abnormal, in every map. All images compared share one scale for their anomaly maps: stretching each map by itself
makes normal images look hot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from anomap.viewing import palette

Pixels = npt.NDArray[np.uint8]
Scale = tuple[float, float]  # anomalies that are drawn fully clear and fully hot

VIEWS = ("undamaged", "image", "attention map", "anomaly map", "overlay", "truth", "restored")

_CALM = 2  # exponent of the heat: slight, everyday anomaly leaves no haze
_OPAQUE = 0.75  # of the hottest pixels
_OUTLINE = 1 / 200  # width of an outline, of the image's longer side


@dataclass(frozen=True)
class Picture:
    """One test image with what a method says of it. Maps are (1, H, W) or (H, W)."""

    image: Pixels  # (C, H, W)
    anomaly_map: npt.NDArray[np.floating]  # higher = more abnormal
    mask: npt.NDArray | None = None  # ground truth of any size (1, h, w) or (h, w), not 0 = abnormal
    attention_map: npt.NDArray[np.floating] | None = None  # in [0, 1], 1 = normal
    restored: Pixels | None = None  # (C, H, W), the image as the method thinks it should be
    undamaged: Pixels | None = None  # (C, H, W), the image before damage was drawn on it
    size: npt.NDArray[np.integer] | None = None  # (H, W) of the photograph, if known: in whose shape all of it is shown
    zoom: "Picture | None" = None  # of a photograph that is shown smaller: a piece of it around the map's peak
    place: npt.NDArray[np.floating] | None = None  # of a zoom: top, left, bottom, right, as shares of the photograph

    def arrays(self, prefix: str = "") -> dict[str, npt.NDArray]:
        """All there is of it, by name, those of its zoom under `zoom/`."""
        held = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "zoom"}
        found = {f"{prefix}{name}": values for name, values in held.items() if values is not None}
        return found if self.zoom is None else found | self.zoom.arrays(f"{prefix}zoom/")

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> "Picture":
        """The inverse of `arrays`."""
        inner = {name.removeprefix("zoom/"): values for name, values in arrays.items() if name.startswith("zoom/")}
        own = {name: values for name, values in arrays.items() if "/" not in name}
        return cls(**own, zoom=cls.of(inner) if inner else None)


def views(
    picture: Picture, scale: Scale, threshold: float | None = None, longest: int | None = None
) -> dict[str, Pixels]:
    """All there is to see of an image, as name (of `VIEWS`, in that order) -> (H, W, 3), in the photograph's shape.

    Image, anomaly map and overlay are always there, the others only if the picture has them. In maps and truth hot, or
    white, is abnormal: an attention map is black where it is 1. `scale` is of the anomaly map, `threshold` a pixel's, for
    the overlay. The longer side is that of the stored image, and at most `longest`.
    """
    stored = picture.image.shape[-2:]
    size = np.asarray(stored if picture.size is None else picture.size)
    shape = np.maximum(1, np.rint(size * min(max(stored), longest or max(stored)) / size.max()).astype(int))
    rgb = resized(to_rgb_image(picture.image), shape)
    shown = {} if picture.undamaged is None else {"undamaged": resized(to_rgb_image(picture.undamaged), shape)}
    shown["image"] = rgb
    if picture.attention_map is not None:
        shown["attention map"] = coloured(1 - _plane(picture.attention_map, shape), palette.HEAT)
    shown["anomaly map"] = coloured(heat(_plane(picture.anomaly_map, shape), scale), palette.HEAT)
    shown["overlay"] = overlay(np.moveaxis(rgb, -1, 0), picture.anomaly_map, scale, threshold)
    if picture.mask is not None:
        shown["truth"] = coloured(smaller_mask(picture.mask, shape), palette.MASK)
    if picture.restored is not None:
        shown["restored"] = resized(to_rgb_image(picture.restored), shape)
    return shown


def overlay(image: Pixels, anomaly_map: npt.NDArray, scale: Scale, threshold: float | None = None) -> Pixels:
    """An image (C, H, W) or (H, W) with what a map (1, h, w) or (h, w) of any size says of it -> (H, W, 3).

    A thin line surrounds what is above the threshold, and nothing hides it. Without a threshold the abnormal glows on
    `scale`; ValueError if that is empty.
    """
    rgb = to_rgb_image(image)
    plane = resized(np.asarray(anomaly_map, np.float32).reshape(anomaly_map.shape[-2:]), rgb.shape[:2])
    if threshold is None:
        strength = heat(plane, scale)[..., None]
        # the darkest third of the colours would darken the image instead of marking it
        colours = coloured(1 / 3 + strength[..., 0] * 2 / 3, palette.HEAT)
        return np.rint(rgb * (1 - _OPAQUE * strength) + colours * _OPAQUE * strength).astype(np.uint8)
    from scipy import ndimage  # a third of a second

    # of a strip that is hardly higher than a line, an eighth
    region, width = plane > threshold, max(1, min(round(_OUTLINE * max(plane.shape)), min(plane.shape) // 8))
    grown: npt.NDArray[np.bool_] = np.asarray(ndimage.maximum_filter(region, 2 * width + 1), bool)
    at_edge = np.ones_like(region)
    at_edge[width:-width, width:-width] = False
    # outside, so that a defect of one pixel stays visible; but within where the image ends
    rgb[(grown & ~region) | (region & at_edge)] = palette.rgb(palette.CONTOUR)
    return rgb


def smaller_mask(mask: npt.NDArray, shape: Sequence[int]) -> npt.NDArray[np.bool_]:
    """A mask (1, h, w) or (h, w) at another size (H, W), to be looked at: even a thin line stays visible."""
    return resized(mask.reshape(mask.shape[-2:]) != 0, shape)


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


def coloured(values: npt.NDArray, colours: str) -> Pixels:
    """[0, 1] (H, W) -> (H, W, 3), by the name of a colour map."""
    import matplotlib  # half a second

    return matplotlib.colormaps[colours](np.asarray(values, np.float64), bytes=True)[..., :3]


def _plane(values: npt.NDArray, shape: Sequence[int]) -> npt.NDArray[np.float64]:
    """A map (1, h, w) or (h, w) at another size (H, W)."""
    return resized(np.asarray(values, np.float32).reshape(values.shape[-2:]), shape).astype(np.float64)


def resized(values: npt.NDArray[Any], shape: Sequence[int]) -> npt.NDArray[Any]:
    """Pixels (h, w, 3), a map or a mask (h, w) -> the same at another size; masks stay sharp, and whatever is in them is seen."""
    if values.shape[:2] == tuple(shape):
        return values
    size = int(shape[1]), int(shape[0])
    if values.dtype == bool:  # the share of each new pixel that is marked; any at all counts, however thin
        return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BOX)) > 0
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))
