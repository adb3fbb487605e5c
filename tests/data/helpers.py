"""Small files that the tests read."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomap.data.anomaly_data import AnomalyData
from anomap.data.layouts.folder import FolderLayout
from anomap.data.samples import Layout


def save(path: Path, pixels: NDArray[Any] | int = 100, size: tuple[int, int] = (8, 8), seed: int | None = None) -> Path:
    """Write an image: given pixels, one grey value, or (with a seed) noise of size (H, W)."""
    if seed is not None:
        pixels = np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)
    array = np.full(size, pixels, np.uint8) if isinstance(pixels, int) else pixels
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def make_dataset(root: Path, train: int = 12, normal: int = 4, abnormal: int = 3, masks: bool = False) -> Path:
    """A folder data set of 8 x 8 noise images, all different."""
    for number in range(train):
        save(root / f"train/0.normal/{number:02d}.png", seed=number)
    for number in range(normal):
        save(root / f"test/0.normal/{number:02d}.png", seed=100 + number)
    for number in range(abnormal):
        save(root / f"test/crack/{number:02d}.png", seed=200 + number)
        if masks:
            mask = np.zeros((8, 8), np.uint8)
            mask[:4, : number + 1] = 255
            save(root / f"ground_truth/crack/{number:02d}_mask.png", mask)
    return root


def module(source: Path | Layout, **options: Any) -> AnomalyData:
    """The data of a folder data set, or of a layout, with small defaults."""
    layout = FolderLayout(source) if isinstance(source, Path) else source
    return AnomalyData(layout, **{"image_size": 8, "channels": 1, "batch_size": 4, **options})


def png16(values: NDArray[np.uint16]) -> bytes:
    """A 16-bit PNG of (H, W, C), C = 1..4 (2 and 4 have alpha); Pillow writes only 16-bit grey."""
    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)) for tag, data in chunks
    )


def tiff16(
    values: NDArray[np.uint16],
    bits: int = 16,
    photometric: int | None = None,
    order: str = "<",
    deflate: bool = False,
    planar: bool = False,
) -> bytes:
    """A TIFF of (H, W) with 12 or 16 bits, or of (H, W, 3) with 16; Pillow writes only 16-bit grey."""
    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[2]
    data = (values.transpose(2, 0, 1) if planar else values).astype(f"{order}u2").tobytes()
    if bits == 12:  # two values in three bytes, each row padded to a byte
        nibbles = np.stack([values >> 8, values >> 4 & 15, values & 15], axis=-1).astype(np.uint8)
        nibbles = nibbles.reshape(height, -1)
        data = (nibbles[:, ::2] << 4 | nibbles[:, 1::2]).tobytes()
    if deflate:
        data = zlib.compress(data)
    plane = len(data) // channels
    arrays_at = 8 + len(data)  # of what does not fit into a tag: depths, then offsets and sizes of planes
    arrays = struct.pack(f"{order}3H", bits, bits, bits)
    arrays += struct.pack(f"{order}6I", *(8 + plane * n for n in range(3)), plane, plane, plane)
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, bits if channels == 1 else arrays_at),
        (259, 3, 1, 8 if deflate else 1),
        (262, 3, 1, photometric if photometric is not None else (2 if channels == 3 else 1)),
        (273, 4, 3, arrays_at + 6) if planar else (273, 4, 1, 8),
        (277, 3, 1, channels),
        (278, 4, 1, height),
        (279, 4, 3, arrays_at + 18) if planar else (279, 4, 1, len(data)),
        (284, 3, 1, 2 if planar else 1),
    ]
    directory = struct.pack(f"{order}H", len(tags))
    for tag, kind, count, value in tags:
        short = kind == 3 and count == 1  # left-justified in its four bytes
        directory += struct.pack(f"{order}HHI", tag, kind, count)
        directory += struct.pack(f"{order}HH", value, 0) if short else struct.pack(f"{order}I", value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", arrays_at + len(arrays))
    return head + data + arrays + directory + bytes(4)


def tiff(
    values: NDArray[Any],
    order: Literal["<", ">"] = "<",
    photometric: int | None = None,
    planar: bool = False,
    extra: Sequence[int] = (),
    predictor: int = 1,
    deflate: bool = False,
) -> bytes:
    """A TIFF of (H, W, bands) with samples of any type, in one strip, or one for each band if `planar`."""
    height, width, bands = values.shape
    planes = [values[..., [band]] for band in range(bands)] if planar else [values]
    if predictor == 2:
        planes = [np.concatenate([plane[:, :1], np.diff(plane, axis=1)], axis=1) for plane in planes]
    strips = [plane.astype(values.dtype.newbyteorder(order)).tobytes() for plane in planes]
    strips = [zlib.compress(strip) for strip in strips] if deflate else strips
    offsets = [8 + sum(map(len, strips[:place])) for place in range(len(strips))]
    bits, kind = 8 * values.dtype.itemsize, {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    tags = {
        256: [width],
        257: [height],
        258: [bits] * bands,
        259: [8 if deflate else 1],
        262: [photometric if photometric is not None else 2 if bands - len(extra) == 3 else 1],
        273: offsets,
        277: [bands],
        278: [height],
        279: [len(strip) for strip in strips],
        284: [2 if planar else 1],
        317: [predictor],
        338: list(extra),
        339: [kind] * bands,
    }
    tags = {tag: numbers for tag, numbers in tags.items() if numbers}
    at = 8 + sum(map(len, strips))
    directory, arrays = struct.pack(f"{order}H", len(tags)), b""
    for tag, numbers in tags.items():
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        place = struct.pack(f"{order}I", at + 2 + 12 * len(tags) + 4 + len(arrays))
        directory += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + (packed if len(numbers) == 1 else place)
        arrays += packed if len(numbers) > 1 else b""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at)
    return head + b"".join(strips) + directory + bytes(4) + arrays
