"""One image file -> the values it holds, upright, at its full depth, and its alpha."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from anomap.data.files import KINDS
from anomap.data.tiff import SpecialTiff, special_tiff
from anomap.errors import UserError

# A JPEG of several pictures (MPO, of phones and stereo cameras) is its first one, the photograph.
# Only these decoders may look at a file, whatever its name says: others of Pillow start external programs.
FORMATS = ("PNG", "TIFF", "JPEG", "BMP", "DIB", "WEBP", "JPEG2000", "AVIF", "GIF", "PPM", "TGA")
_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANAR = 274, 258, 262, 284  # TIFF tags
_WHITE_IS_ZERO = 0
SKIP = "or leave it out with data.on_error=skip"
EIGHT_BITS, SIXTEEN_BITS = (0.0, 255.0), (0.0, 65535.0)
# Pillow's raw mode for the high bytes of 16-bit values (big-, little-endian, native) -> for the low ones.
_LOW_NATIVE = "16B" if sys.byteorder == "little" else "16L"
_OTHER_BYTE = {
    f"{colours};{high}": f"{colours};{low}"
    for colours in ("RGB", "RGBA")
    for high, low in (("16B", "16L"), ("16L", "16B"), ("16N", _LOW_NATIVE))
}


class ImageFileError(UserError):
    """One file cannot be used; `reason` says why without the advice, which is for a training."""

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(f"{reason}; {advice}" if advice else reason)
        self.reason = reason


class UnreadableImageError(ImageFileError):
    """One file is broken, truncated, too large, or of a kind that is not read: `on_error=skip` may leave it out."""


@dataclass(frozen=True)
class Pixels:
    """What a file holds, upright."""

    # (H, W) or (H, W, 3); of 8 bits as a Pillow image, which is resized without a copy
    stored: NDArray[np.generic] | Image.Image
    limits: tuple[float, float] | None  # of its type; None: 32- and 64-bit integers and floats have none
    alpha: NDArray[np.float32] | None = None  # (H, W) in [0, 1], where not all of it is opaque
    multiplied: bool = False  # whether the colours are multiplied by alpha already


def read_pixels(path: Path, max_pixels: int, bands: Sequence[int] | None = None) -> Pixels:
    """Decode a file of one of `FORMATS`; of several `bands`, take these, counted from 0.

    UnreadableImageError: missing, broken, truncated, several pages in one file, a number of bands that is no grey or colour,
    a kind of 16-bit colour that cannot be read in full, or, by its header, more than `max_pixels` pixels.
    """
    with _opened(path, max_pixels) as image:
        if isinstance(image, SpecialTiff):
            found = _of_special(image, path, bands)
            orientation = image.orientation
        else:
            orientation = _orientation(image)
            found = _of_image(image, path, bands)
        if orientation == 1:
            return found
        alpha = None if found.alpha is None else _upright(found.alpha, orientation).astype(np.float32, copy=False)
        return replace(found, stored=_upright(np.asarray(found.stored), orientation), alpha=alpha)


def read_size(path: Path, max_pixels: int) -> tuple[int, int]:
    """(H, W) of an image as it is shown, from its header; errors as in `read_pixels`."""
    with _opened(path, max_pixels) as image:
        if isinstance(image, SpecialTiff):
            height, width = image.size
            return (height, width) if image.orientation < 5 else (width, height)
        return (image.width, image.height) if _orientation(image) >= 5 else (image.height, image.width)


def read_stored(path: Path, max_pixels: int) -> tuple[NDArray[np.generic], NDArray[np.uint8] | None, bool]:
    """What a file of drawn marks holds, at its full depth and upright; errors as in `read_pixels`.

    Values (H, W) or colours (H, W, 3); alpha (H, W), or None; and whether its compression changes values (JPEG).
    """
    with _opened(path, max_pixels) as image:
        if isinstance(image, SpecialTiff):
            found = _of_special(image, path, None)
            alpha = (
                None
                if found.alpha is None
                else _upright(np.rint(found.alpha * 255), image.orientation).astype(np.uint8)
            )
            return _upright(np.asarray(found.stored), image.orientation), alpha, False
        orientation = _orientation(image)
        lossy = image.format in ("JPEG", "MPO", "AVIF") or image.info.get("compression") == "jpeg"
        if image.has_transparency_data and max(_tiff_tag(image, _BITS_PER_SAMPLE, (8,))) == 8:
            both = _upright(np.asarray(image.convert("RGBA")), orientation).astype(np.uint8)
            return both[..., :3], both[..., 3], lossy
        return _upright(np.asarray(_decode(image, path)[0]), orientation), None, lossy


def _of_special(tiff: SpecialTiff, path: Path, bands: Sequence[int] | None) -> Pixels:
    with path.open("rb") as file:
        values = tiff.values(file)
    limits = _limits(values.dtype)
    alpha, place = None, tiff.alpha
    if place is not None and place < values.shape[2]:
        low, high = limits or (0.0, 1.0)
        alpha = _if_not_opaque(np.clip((values[..., place].astype(np.float64) - low) / (high - low), 0, 1))
        values = np.delete(values, place, axis=2)
    return Pixels(_chosen(values, bands, path), limits, alpha, tiff.associated)


def _of_image(image: ImageFile.ImageFile, path: Path, bands: Sequence[int] | None) -> Pixels:
    """Transparency may be a channel, an entry of the palette or a colour."""
    alpha = None
    if image.has_transparency_data and image.mode not in ("I", "F", "I;16", "I;16B"):
        alpha = _if_not_opaque(_alpha(image, path).astype(np.float32) / np.float32(255))
    stored, limits = _decode(image, path)
    if bands is not None:
        stored = _chosen(np.atleast_3d(np.asarray(stored)), bands, path)
    return Pixels(stored, limits, alpha)


def _alpha(image: ImageFile.ImageFile, path: Path) -> NDArray[np.uint8]:
    """(H, W), 8 bits of it."""
    if not any(";16" in _raw_mode(tile) for tile in image.tile):
        return np.asarray((image.convert("LA") if image.mode == "La" else image).convert("RGBA").getchannel("A"))
    with (
        path.open("rb") as file,
        Image.open(file, formats=FORMATS) as again,
    ):  # decoding `image` now would cost its low bytes
        return np.asarray(again.convert("RGBA").getchannel("A"))


def _if_not_opaque(alpha: NDArray[np.floating]) -> NDArray[np.float32] | None:
    return None if alpha.min() >= 1 else alpha.astype(np.float32)


def _chosen(values: NDArray[np.generic], bands: Sequence[int] | None, path: Path) -> NDArray[np.generic]:
    """(H, W, bands) -> (H, W) or (H, W, 3)."""
    count = values.shape[2]
    if bands is not None and max(bands) >= count:
        raise UnreadableImageError(
            f"{path} has {count} band(s), counted from 0: data.bands={[*bands]} asks for more", SKIP
        )
    if bands is None and count not in (1, 3):
        advice = "choose one: data.bands=[0]" if count == 2 else "choose one or three: data.bands=[0,1,2]"
        raise UnreadableImageError(f"{path} has {count} bands, neither grey nor colour", f"{advice}, {SKIP}")
    taken = values if bands is None else values[..., list(bands)]
    return taken[..., 0] if taken.shape[2] == 1 else taken


def _limits(dtype: np.dtype[Any]) -> tuple[float, float] | None:
    """The range of a type of 8 or 16 bits."""
    if dtype.kind not in "iu" or dtype.itemsize > 2:
        return None
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[ImageFile.ImageFile | SpecialTiff]:
    """Open and check by the header; whatever a decoder raises (nearly anything) becomes one line that names the file."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        # who raises data.max_pixels means it; Pillow's own limit knows nothing of that
        Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        with path.open("rb") as file:
            if (special := special_tiff(file)) is not None:
                _check_header(path, special.size, special.pages, max_pixels)
                yield special
                return
            with Image.open(file, formats=FORMATS) as image:
                pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
                _check_header(path, (image.height, image.width), pages, max_pixels)
                yield image
    except (UserError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError(f"{path} is too large to decode safely: {error}") from error
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, Image.UnidentifiedImageError):
            reason = f"not an image of a kind that is read ({KINDS})"
        raise UnreadableImageError(
            f"cannot read image {path}: {' '.join(reason.split())}",
            f"mend or remove it, {SKIP}",
        ) from error


def _check_header(path: Path, size: tuple[int, int], pages: int, max_pixels: int) -> None:
    height, width = size
    if width * height > max_pixels:
        raise UnreadableImageError(
            f"{path} has {width} x {height} pixels, more than data.max_pixels={max_pixels}",
            "make it smaller, or raise data.max_pixels if it is genuine",
        )
    if pages > 1:
        raise UnreadableImageError(f"{path} holds {pages} pages or frames: save one image per file", SKIP)


def _orientation(image: ImageFile.ImageFile) -> int:
    """EXIF orientation, 1..8; 1 = upright, 5..8 swap height and width."""
    # Pillow turns TIFF while loading; to ask a PNG for EXIF that it has not announced would decode it
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    value = image.getexif().get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(values: NDArray[np.generic], orientation: int) -> NDArray[np.generic]:
    """Undo an EXIF orientation (EXIF 2.3, tag 0x0112); (H, W) or (H, W, 3)."""
    turned = values.swapaxes(0, 1) if orientation >= 5 else values
    down, right = (-1 if orientation in mirrored else 1 for mirrored in ((3, 4, 7, 8), (2, 3, 6, 7)))
    return np.ascontiguousarray(turned[::down, ::right])


def _decode(
    image: ImageFile.ImageFile, path: Path
) -> tuple[NDArray[np.generic] | Image.Image, tuple[float, float] | None]:
    """Colours without alpha, and the limits of their type; 16-bit grey without Image.convert(), which saturates at 255."""
    if image.mode.startswith("I;16"):
        white = 2 ** _tiff_tag(image, _BITS_PER_SAMPLE, (16,))[0] - 1  # 12-bit TIFF comes as 0..4095
        inverted = _tiff_tag(image, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO
        values = np.asarray(image).astype(np.uint16)
        return np.uint16(white) - values if inverted else values, (0.0, float(white))
    if image.format == "PPM" and image.mode == "I":  # Pillow has scaled what the header calls white to 65535
        white = image.tile[0].args[1] if isinstance(image.tile[0].args, tuple) else 65535
        values = np.rint(np.asarray(image) * (white / 65535))
        return values.astype(np.uint16), (0.0, float(white))
    if image.mode in ("I", "F"):
        return np.asarray(image), None
    if max(_tiff_tag(image, _BITS_PER_SAMPLE, (8,))) > 8 or any(";16" in _raw_mode(tile) for tile in image.tile):
        return _decode_colour16(image, path), SIXTEEN_BITS  # Pillow silently opens it as 8 bits
    if image.mode in ("P", "PA"):  # straight to RGB, Pillow would warn about a transparent palette entry
        return image.convert("RGBA").convert("RGB"), EIGHT_BITS
    if image.mode == "La":  # multiplied by alpha
        return image.convert("LA").convert("L"), EIGHT_BITS
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"), EIGHT_BITS


def _decode_colour16(image: ImageFile.ImageFile, path: Path) -> NDArray[np.uint16]:
    """16-bit colour in full: Pillow gives one byte of each value, so decode the high ones, then the low."""
    raw_modes = {_raw_mode(tile) for tile in image.tile}
    if raw_modes == {"LA;16B"}:  # grey and alpha, which as plain RGBA are the bytes high, low, alpha, alpha
        image.tile = [_with_raw_mode(tile, "RGBA") for tile in image.tile]
        both = np.asarray(image).astype(np.uint16)
        return (both[..., 0] << np.uint16(8)) | both[..., 1]
    if not raw_modes <= _OTHER_BYTE.keys() or _tiff_tag(image, _PLANAR, 1) != 1:
        raise UnreadableImageError(
            f"{path} is 16-bit colour of a kind that cannot be read in full: save it as a 16-bit RGB PNG", SKIP
        )
    high = np.asarray(image)[..., :3].astype(np.uint16)
    with path.open("rb") as file, Image.open(file, formats=FORMATS) as again:
        again.tile = [_with_raw_mode(tile, _OTHER_BYTE[_raw_mode(tile)]) for tile in again.tile]
        low = np.asarray(again)[..., :3]
    return (high << np.uint16(8)) | low


def _raw_mode(tile: Any) -> str:
    """How the bytes of a tile are laid out; the first or only argument of its decoder."""
    return tile.args if isinstance(tile.args, str) else str((tile.args or ("",))[0])


def _with_raw_mode(tile: Any, raw_mode: str) -> Any:
    return tile._replace(args=raw_mode if isinstance(tile.args, str) else (raw_mode, *tile.args[1:]))


def _tiff_tag(image: ImageFile.ImageFile, tag: int, default: Any) -> Any:
    return image.tag_v2.get(tag, default) if isinstance(image, TiffImagePlugin.TiffImageFile) else default
