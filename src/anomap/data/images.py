"""One image file -> uint8 (C, H, W), the same way in training, evaluation and prediction.

Intensities are scaled by a FIXED range (the file type's own, or `intensity_range`), never by an image's own
minimum and maximum: a dark image stays dark, and a score does not depend on the brightest pixel.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomap.data.reading import EIGHT_BITS, ImageFileError, UnreadableImageError, read_pixels

log = logging.getLogger(__name__)

MAX_PIXELS = 64_000_000
COLOUR = 16  # grey levels between the channels of a pixel that is in colour: more than JPEG leaves of grey
BACKGROUNDS = ("black", "white")  # the ends of the intensity range
Uint8 = NDArray[np.uint8]
AnyPath = str | os.PathLike[str]
Size = tuple[int, int] | float
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow's own grey


def load_image(
    path: AnyPath,  # of one of the kinds in `anomap.data.files.EXTENSIONS`; 8 or 16 bits, 32- or 64-bit integers or floats
    channels: int,  # 1 or 3
    size: Size,  # (H, W) of the result, in pixels; or a factor of the image's own
    # in the file's units, mapped to 0 and 255 with clipping; None: that of its type, which 32-bit and float files have not
    intensity_range: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,  # refuse a larger image, by its header
    bands: Sequence[int]
    | None = None,  # one or three of the file's, counted from 0; None: files of other numbers are refused
    background: str = "black",  # what lies behind transparent pixels, one of `BACKGROUNDS`
) -> Uint8:
    """Read one image as uint8 (C, H, W).

    Grey is repeated into three channels, colour is weighted into one (BT.601); transparent pixels show the `background`, a
    palette is looked up, the EXIF orientation applied. The resize is bilinear with antialiasing, in float where the file
    holds more than 8 bits. UnreadableImageError: missing, broken, truncated, not finite, or too large. UserError: the file
    is sound but these options cannot read it faithfully. Both name the file.
    """
    return load_sized(path, channels, size, intensity_range, max_pixels, bands, background)[0]


def load_sized(
    path: AnyPath,
    channels: int,
    size: Size,
    intensity_range: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
    bands: Sequence[int] | None = None,
    background: str = "black",
) -> tuple[Uint8, tuple[int, int]]:
    """What `load_image` returns, and the (H, W) of the file itself."""
    pixels = read_pixels(Path(path), max_pixels, bands)
    values, limits = pixels.stored, intensity_range or pixels.limits
    if isinstance(values, Image.Image) and limits == EIGHT_BITS and pixels.alpha is None:
        return _from_eight_bits(values, channels, size), (values.height, values.width)
    values = np.asarray(values)
    own = (values.shape[0], values.shape[1])
    if limits is None:
        raise ImageFileError(
            f"{path} holds {values.dtype} values, which have no natural range",
            "set data.intensity_range=[low,high] in the units of the file, or auto",
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UnreadableImageError(f"{path} holds values that are not finite (NaN or infinity)", "mend or remove it")
    if pixels.limits is not None:
        _tell_of_depth(path, values, pixels.limits, limits)
    if pixels.alpha is not None:
        line = "images have transparent pixels: what they hide is not looked at, they are read as %s (data.background)"
        _tell_once("transparent", line, background)
        log.debug("%s has transparent pixels", path)
        values = on_background(values, pixels.alpha, limits[BACKGROUNDS.index(background)], pixels.multiplied)
    return convert(values, channels, size, limits), own


_told: set[str] = set()  # kinds of doubt, in this process


def _tell_once(doubt: str, line: str, *values: object) -> None:
    if doubt not in _told:
        _told.add(doubt)
        log.warning(line, *values)


def _tell_of_depth(
    path: AnyPath, values: NDArray[np.generic], own: tuple[float, float], limits: tuple[float, float]
) -> None:
    """Files of another depth than the others look nearly black; what decides is not changed."""
    if limits[1] > 2 * own[1] + 1:
        line = "%s holds values up to %g, and is read with data.intensity_range=[%g,%g], so it looks black: is it a wrong file?"
        _tell_once(f"narrow {limits}", line, path, own[1], *limits)
    elif (
        limits == own
        and own[1] > EIGHT_BITS[1]
        and (share := (float(values.max()) - own[0]) / (own[1] - own[0])) < 1 / 8
    ):
        line = "%s uses %.1f %% of the range of its type, so it looks nearly black: is it of another depth than the others?"
        _tell_once("dark", line, path, 100 * share)


def _tell_of_colour(image: Image.Image) -> None:
    """That colours are read as grey, where a few pixels show any."""
    if "colour" not in _told and image.mode not in ("L", "1", "LA", "La"):
        few = np.asarray(image.resize((16, 16), Image.Resampling.NEAREST).convert("RGB")).astype(int)
        if np.ptp(few, axis=2).max() > COLOUR:
            _tell_once(
                "colour", "images are in colour and are read as grey: the detector sees one channel (data.channels=1)"
            )


def on_background(
    values: NDArray[np.generic], alpha: NDArray[np.float32], background: float, multiplied: bool = False
) -> NDArray[np.generic]:
    """Values (H, W) or (H, W, C), composed with a flat `background` by alpha (H, W); of the same type."""
    share = alpha if values.ndim == 2 else alpha[..., None]
    wide = values.astype(np.float64 if values.dtype.itemsize > 2 else np.float32)
    mixed = (wide if multiplied else wide * share) + background * (1 - share)
    if values.dtype.kind == "f":
        return mixed.astype(values.dtype)
    span = np.iinfo(str(values.dtype))
    return np.clip(np.rint(mixed), span.min, span.max).astype(values.dtype)


def convert(
    values: NDArray[np.generic], channels: int, size: Size, intensity_range: tuple[float, float] = EIGHT_BITS
) -> Uint8:
    """Finite values (H, W) or (H, W, 3) as a file holds them -> uint8 (C, H, W); the arguments of `load_image`."""
    if values.dtype == np.uint8 and intensity_range == EIGHT_BITS:
        return _from_eight_bits(Image.fromarray(values), channels, size)
    low, high = intensity_range
    wide = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)  # 32-bit integers need float64
    unit = (np.clip((wide - low) / (high - low), 0.0, 1.0) * 255.0).astype(np.float32)
    if unit.ndim == 3 and channels == 1:
        unit = unit @ _LUMA
    layers = np.moveaxis(np.atleast_3d(unit), 2, 0)
    resized = [np.asarray(_resize(Image.fromarray(np.ascontiguousarray(layer)), size)) for layer in layers]
    return _planes(np.rint(np.stack(resized, axis=2)).astype(np.uint8), channels)


def _from_eight_bits(image: Image.Image, channels: int, size: Size) -> Uint8:
    if channels == 1:
        _tell_of_colour(image)
    grey = image.convert("L") if channels == 1 and image.mode != "L" else image
    return _planes(np.asarray(_resize(grey, size)), channels)


def _planes(pixels: Uint8, channels: int) -> Uint8:
    """(H, W) or (H, W, C) -> (channels, H, W); grey is repeated."""
    planes = np.atleast_3d(pixels).transpose(2, 0, 1)  # (1 or 3, H, W)
    return np.ascontiguousarray(np.broadcast_to(planes, (channels, *planes.shape[1:])))


def scaled(own: tuple[int, int], size: Size) -> tuple[int, int]:
    """(H, W) of an image after reading, of its `own` (H, W); at least one pixel."""
    return (max(1, round(own[0] * size)), max(1, round(own[1] * size))) if isinstance(size, int | float) else size


def _resize(image: Image.Image, size: Size) -> Image.Image:
    """Bilinear; Pillow widens the kernel when it shrinks, which is the antialiasing."""
    height, width = scaled((image.height, image.width), size)
    width_height = (width, height)
    return image if image.size == width_height else image.resize(width_height, Image.Resampling.BILINEAR)
