"""TIFF files whose samples Pillow does not know, or changes: signed, 32- and 64-bit, half floats, any number of bands.

Pillow and its libtiff unpack the bytes, told that they are a grey image of 8 bits; what the bytes mean is worked out here.
"""

import math
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

# Tags, TIFF 6.0
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIPS, _ORIENTATION, _SAMPLES, _ROWS, _STRIP_SIZES, _PLANAR, _PREDICTOR = 273, 274, 277, 278, 279, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_SIZES, _EXTRA, _FORMAT = 322, 323, 324, 325, 338, 339
_LOSSLESS = (1, 5, 8, 32773, 32946, 34925, 50000)  # none, LZW, Deflate, PackBits, LZMA, Zstandard
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}
_WHITE_IS_ZERO, _RGB = 0, 2
_ASSOCIATED, _UNASSOCIATED = 1, 2  # alpha; colours are multiplied by the former
_HORIZONTAL, _FLOAT = 2, 3  # predictors


@dataclass(frozen=True)
class SpecialTiff:
    """The header of such a file; errors while reading are those of Pillow, NumPy and ValueError."""

    tags: Any  # of the first page
    pages: int

    @property
    def size(self) -> tuple[int, int]:
        """(H, W), as stored."""
        return int(self.tags[_HEIGHT]), int(self.tags[_WIDTH])

    @property
    def orientation(self) -> int:
        return int(self.tags.get(_ORIENTATION, 1))

    @property
    def bands(self) -> int:
        """Samples per pixel, alpha among them."""
        return int(self.tags.get(_SAMPLES, 1))

    @property
    def alpha(self) -> int | None:
        """Which band is alpha, if any."""
        extra = self.tags.get(_EXTRA, ())
        colours = self.bands - len(extra)
        found = (colours + place for place, kind in enumerate(extra) if kind in (_ASSOCIATED, _UNASSOCIATED))
        return next(found, None)

    @property
    def associated(self) -> bool:
        """Whether the colours are multiplied by alpha already."""
        return _ASSOCIATED in self.tags.get(_EXTRA, ())

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the samples, in the file's order of bytes; ValueError: of a kind that is not read."""
        bits, kinds = {*self.tags.get(_BITS, (1,))}, {*self.tags.get(_FORMAT, (1,))}
        try:
            ((depth,), (kind,)) = bits, kinds
            return np.dtype(f"{_KINDS[kind]}{depth // 8 if depth % 8 == 0 else 0}").newbyteorder(self.tags._endian)
        except (KeyError, TypeError, ValueError):
            depths = " and ".join(map(str, sorted(bits)))
            raise ValueError(f"TIFF samples of {depths} bits (sample format {sorted(kinds)}) are not read") from None

    def values(self, file: BinaryIO) -> NDArray[np.generic]:
        """(H, W, bands), black 0 and in this machine's order of bytes."""
        dtype = self.dtype
        if self.tags.get(_COMPRESSION, 1) not in _LOSSLESS:
            raise ValueError(f"{dtype.name} samples with TIFF compression {self.tags[_COMPRESSION]} are not read")
        file.seek(0)
        content = file.read()
        separate = self.tags.get(_PLANAR, 1) == 2 and self.bands > 1
        planes = [self._plane(content, dtype, band) for band in range(self.bands)] if separate else None
        found = np.concatenate(planes, axis=2) if planes else self._plane(content, dtype, None)
        native = found.astype(dtype.newbyteorder("="), copy=False)
        if self.tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO and native.dtype.kind in "iu":
            native = np.invert(native)  # greatest <-> least
        return native

    def _plane(self, content: bytes, dtype: np.dtype[Any], band: int | None) -> NDArray[np.generic]:
        """(H, W, bands) of values that lie together, or (H, W, 1) of one `band` that lies by itself."""
        width = self.size[1]
        samples = self.bands if band is None else 1
        tiled = _TILES in self.tags
        segment = int(self.tags[_TILE_WIDTH]) if tiled else width  # what a predictor starts anew
        across = math.ceil(width / segment)
        row_bytes = segment * samples * dtype.itemsize
        as_bytes = self._unpacked(content, row_bytes, across, band)
        parts = [
            _restored(as_bytes[:, at * row_bytes : (at + 1) * row_bytes], samples, dtype, self.tags.get(_PREDICTOR, 1))
            for at in range(across)
        ]
        return np.concatenate(parts, axis=1)[:, :width] if across > 1 else parts[0]

    def _unpacked(self, content: bytes, row_bytes: int, across: int, band: int | None) -> NDArray[np.uint8]:
        """The bytes of the samples, (H, across * row_bytes)."""
        tiled = _TILES in self.tags
        at, sizes = (_TILES, _TILE_SIZES) if tiled else (_STRIPS, _STRIP_SIZES)
        offsets, counts = [*map(int, self.tags[at])], [*map(int, self.tags[sizes])]
        if band is not None:
            each = len(offsets) // self.bands
            offsets, counts = (numbers[band * each : (band + 1) * each] for numbers in (offsets, counts))
        height = self.size[0]
        entries: dict[int, list[int]] = {
            _WIDTH: [row_bytes * across],
            _HEIGHT: [height],
            _BITS: [8],
            _COMPRESSION: [int(self.tags.get(_COMPRESSION, 1))],
            _PHOTOMETRIC: [1],
            _FILL_ORDER: [int(self.tags.get(_FILL_ORDER, 1))],
            _SAMPLES: [1],
            at: offsets,
            sizes: counts,
        }
        if tiled:
            entries |= {_TILE_WIDTH: [row_bytes], _TILE_HEIGHT: [int(self.tags[_TILE_HEIGHT])]}
        else:
            entries[_ROWS] = [min(height, int(self.tags.get(_ROWS, height)))]
        image = TiffImagePlugin.TiffImageFile(BytesIO(_with_directory(content, entries)))
        return np.asarray(image)


def special_tiff(file: BinaryIO) -> SpecialTiff | None:
    """The header of a TIFF that Pillow cannot be left alone with; None for all other files. The file is left at its start."""
    try:
        head = file.read(8)
        if head[:4] == b"II+\0":  # BigTIFF
            head += file.read(8)
        elif head[:4] not in (b"II*\0", b"MM\0*"):
            return None
        tags = TiffImagePlugin.ImageFileDirectory_v2(head)
        tags_at, seen = tags.next, set[int]()
        file.seek(tags_at)
        tags.load(file)
        following = tags.next
        while following and following not in seen:
            seen.add(following)
            further = TiffImagePlugin.ImageFileDirectory_v2(head)
            file.seek(following)
            further.load(file)
            following = further.next
        return SpecialTiff(tags, 1 + len(seen)) if _is_special(tags) else None
    except (SyntaxError, struct.error, TypeError, ValueError, KeyError, OSError):
        return None  # broken: Pillow says how
    finally:
        file.seek(0)


def _is_special(tags: Any) -> bool:
    samples, extra = int(tags.get(_SAMPLES, 1)), tags.get(_EXTRA, ())
    bits, kinds = {*tags.get(_BITS, (1,))}, {*tags.get(_FORMAT, (1,))}
    if tags[_PHOTOMETRIC] not in (_WHITE_IS_ZERO, 1, _RGB) or tags.get(_COMPRESSION, 1) in (6, 7):
        return False  # palettes and other colour spaces, JPEG: of 8 bits
    if kinds != {1}:
        return True
    if samples == 1:
        return not bits <= {1, 2, 4, 8, 12, 16}
    alone = samples - len(extra) in (1, 3) and set(extra) <= {_ASSOCIATED, _UNASSOCIATED} and len(extra) <= 1
    return bits != {8} or not alone or tags.get(_PLANAR, 1) == 2


def _restored(row_bytes: NDArray[np.uint8], samples: int, dtype: np.dtype[Any], predictor: int) -> NDArray[np.generic]:
    """(H, bytes of a row) -> (H, W, samples), a predictor undone (TIFF 6.0, section 14; Adobe's technical note 3)."""
    height = row_bytes.shape[0]
    if predictor == _FLOAT:
        summed = np.add.accumulate(row_bytes.reshape(height, -1, samples), axis=1, dtype=np.uint8)
        planes = summed.reshape(height, dtype.itemsize, -1).swapaxes(1, 2)  # the high bytes of all values first
        values = np.ascontiguousarray(planes).view(dtype.newbyteorder(">"))
        return values.reshape(height, -1, samples).astype(dtype)
    values = np.ascontiguousarray(row_bytes).view(dtype).reshape(height, -1, samples)
    if predictor == _HORIZONTAL:
        whole = np.dtype(f"u{dtype.itemsize}")  # differences wrap around
        raw = values.view(whole.newbyteorder(dtype.byteorder)).astype(whole)
        values = np.add.accumulate(raw, axis=1, dtype=whole).view(dtype.newbyteorder("=")).astype(dtype)
    return values


def _with_directory(content: bytes, entries: dict[int, list[int]]) -> bytes:
    """A TIFF of the same data under another directory of whole numbers."""
    at = len(content) + len(content) % 2
    size = 2 + 12 * len(entries) + 4
    if at + size + 8 * max(map(len, entries.values())) >= 2**32:
        raise ValueError("a TIFF of more than 4 GB")
    directory, arrays = struct.pack("<H", len(entries)), b""
    for tag, numbers in sorted(entries.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        directory += struct.pack("<HHI", tag, 4, len(numbers))
        directory += packed if len(numbers) == 1 else struct.pack("<I", at + size + len(arrays))
        arrays += packed if len(numbers) > 1 else b""
    head = b"II*\0" + struct.pack("<I", at)
    return head + content[8:] + bytes(at - len(content)) + directory + bytes(4) + arrays
