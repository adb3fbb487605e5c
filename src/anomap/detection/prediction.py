"""What a detector says of one image: score, decision, and where; at the size of the photograph itself. Needs no torch."""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from anomap.data.resizing import Map, resize_map
from anomap.errors import UserError
from anomap.runs.folder import write_atomically


@dataclass(frozen=True)
class Region:
    """One connected piece of a photograph that is above the pixel threshold."""

    box: tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom just outside, as Pillow crops
    area: int  # in pixels
    peak: float  # the highest value of the anomaly map in it


@dataclass(frozen=True, repr=False, eq=False)
class Prediction:
    """What a detector says of one image. Maps and pictures have the photograph's own size; arrays of colours are RGB."""

    score: float  # raw, higher = more abnormal
    is_anomaly: bool  # score > threshold
    threshold: float
    pixel_threshold: float
    size: tuple[int, int]  # (H, W) of the photograph
    _anomaly: Map  # (h, w) at the size that the detector sees
    _attention: Map | None
    _scale: tuple[float, float]
    _photograph: Callable[[], npt.NDArray[np.uint8]]  # (3, H, W), read only when it is asked for

    def __repr__(self) -> str:
        decision = "abnormal" if self.is_anomaly else "normal"
        height, width = self.size
        return f"Prediction({decision}, score={self.score:.4g}, threshold={self.threshold:.4g}, {width}x{height} px)"

    @cached_property
    def anomaly_map(self) -> Map:
        """Float32 (H, W), higher = more abnormal."""
        return self._enlarged(self._anomaly)

    @cached_property
    def attention_map(self) -> Map | None:
        """Float32 (H, W) in [0, 1], 1 = normal region; None of a method that has none, and of an exported file."""
        return None if self._attention is None else self._enlarged(self._attention)

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """(H, W), True where the anomaly map is above the pixel threshold."""
        return self.anomaly_map > self.pixel_threshold

    def regions(self) -> list[Region]:
        """The connected pieces of `mask`, diagonals included, the highest peak first; empty if nothing is above.

        An abnormal image may have none, and a normal one some: image and pixels have thresholds of their own.
        """
        from scipy import ndimage

        labelled: Any = ndimage.label(self.mask, np.ones((3, 3)))
        pieces = labelled[0]
        found = []
        for number, place in enumerate(ndimage.find_objects(pieces), start=1):
            rows, columns = place
            inside = self.anomaly_map[place][pieces[place] == number]
            box = (columns.start, rows.start, columns.stop, rows.stop)
            found.append(Region(box, inside.size, float(inside.max())))
        return sorted(found, key=lambda region: -region.peak)

    def overlay(self) -> npt.NDArray[np.uint8]:
        """The photograph with a line around each region, RGB (H, W, 3); its file is read again.

        UserError if it is gone, or cannot be read any more.
        """
        from anomap.viewing.pixels import overlay  # and with it matplotlib

        return overlay(self._photograph(), self.anomaly_map, self._scale, self.pixel_threshold)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the overlay to a file, whole or not at all, of the kind that its name says (`.png`, `.jpg`, ...).

        UserError if there is no such kind, or the disk or folder does not take it; and what `overlay` raises.
        """
        kind = Image.registered_extensions().get(Path(path).suffix.lower())
        if kind not in Image.SAVE:
            raise UserError(f"{path}: no kind of picture that can be written; name it .png, .jpg, .tif or .webp")
        buffer = io.BytesIO()
        Image.fromarray(self.overlay()).save(buffer, format=kind)
        try:
            write_atomically(path, buffer.getvalue())
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); give another place") from error

    def _enlarged(self, plane: Map) -> Map:
        return resize_map(plane, self.size)
