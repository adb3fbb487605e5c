"""Ground-truth masks: what their files mean, and the masks of a whole test set, each at its own size."""

import logging
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anomap.data.decode import in_flight
from anomap.data.files import shorten
from anomap.data.reading import ImageFileError, UnreadableImageError, read_size, read_stored
from anomap.data.samples import ABNORMAL, NORMAL, Sample
from anomap.errors import UserError

log = logging.getLogger(__name__)

Bools = NDArray[np.bool_]

_LABELS = 32  # whole numbers up to this, or so many colours, are labels of kinds of defects
_DIM = 16  # of 255: a JPEG without anything brighter holds labels that its compression has blurred
_NEARLY_ALL, _MOST = 0.95, 0.5  # of an image's pixels
_FEW = 3  # masks, fewer say nothing about all of them


def load_mask(path: Path, max_pixels: int) -> tuple[Bools, bool]:
    """Read one mask file: bool (H, W), True = abnormal; and whether it was grey, and therefore cut at half of its range.

    Sure are: one bit; two values, of which the higher is abnormal; small whole numbers, or a few colours, of which every
    one but 0 (black) is a kind of defect; and what is drawn on a transparent ground. Everything else is grey.
    UserError: not a mask, or not readable; it names the file.
    """
    values, alpha, lossy = read_stored(path, max_pixels)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UnreadableImageError(f"mask {path} holds values that are not finite (NaN or infinity): mend it")
    if alpha is not None and alpha.min() < alpha.max():
        drawn = alpha > alpha.max() // 2
        peaks, kept = (values, drawn) if values.ndim == 2 else (values.max(axis=2), drawn[..., None])
        visible = peaks[drawn]
        if not (visible.min() == 0 < visible.max()):
            return _cut(alpha, lossy)  # nothing but the drawing can be seen
        values = np.where(kept, values, values.dtype.type(0))
    if lossy and 0 < values.max() <= _DIM:
        raise UserError(
            f"mask {path} is a JPEG with nothing brighter than {values.max()} of 255: labels do not survive JPEG; "
            "save it as PNG"
        )
    if values.ndim == 3:
        colours = values
        values = colours.max(axis=2)
        if not (colours == values[..., None]).all() and not lossy and _few_colours(colours):
            return values > 0, False
    return _cut(values, lossy)


def _cut(values: NDArray[np.generic], lossy: bool) -> tuple[Bools, bool]:
    """Values (H, W) -> what they mark, and whether they are grey."""
    levels = _levels(values)
    low, high = levels[0], levels[-1]
    if levels.size == 1:
        return values != 0, False
    if levels.size == 2:
        return values == high, False
    if not lossy and low >= 0 and high <= _LABELS and levels.dtype.kind in "iu":
        return values != 0, False
    return np.greater(values, (float(low) + float(high)) / 2), True


def _levels(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """The distinct values, ascending."""
    if values.dtype != np.uint8:
        return np.unique(values)
    return np.flatnonzero(np.bincount(values.ravel(), minlength=256)).astype(np.uint8)


def _few_colours(colours: NDArray[np.generic]) -> bool:
    """Whether (H, W, 3) holds no more colours than there may be labels."""
    channels = np.moveaxis(colours, 2, 0).astype(np.uint64)
    codes = (channels[0] << 32) | (channels[1] << 16) | channels[2]
    # most images of many colours show them early
    return all(np.unique(part).size <= _LABELS for part in (codes[:1], codes))


class Masks:
    """The masks of a set of images by sample, packed; above `budget` bytes they are read again when they are needed.

    `note` says of which images the pixel metrics know nothing, and why, and which masks were grey; mostly empty.
    """

    def __init__(self, max_pixels: int, budget: int) -> None:
        self.note = ""
        self._max_pixels, self._left = max_pixels, budget
        self._kept: dict[str, tuple[tuple[int, int], bytes | None]] = {}

    def __contains__(self, sample: Sample) -> bool:
        return sample.name in self._kept

    def of(self, sample: Sample) -> Bools | None:
        """Bool (H, W), True = abnormal, at the size of the mask's file; None where nothing is known of the image."""
        if sample.name not in self._kept:
            return None
        (height, width), packed = self._kept[sample.name]
        if packed is None:
            return _united(sample, self._max_pixels)[0]
        if not packed:
            return np.zeros((height, width), np.bool_)
        bits = np.frombuffer(zlib.decompress(packed), np.uint8)
        return np.unpackbits(bits, count=height * width).reshape(height, width).view(np.bool_)

    def keep(self, sample: Sample, size: tuple[int, int], mask: Bools | None) -> None:
        """Take in a mask (H, W) = `size`; None marks nothing."""
        packed = b"" if mask is None or not mask.any() else zlib.compress(np.packbits(mask).tobytes(), 1)
        if len(packed) > self._left:
            packed = None
        self._left -= len(packed or b"")
        self._kept[sample.name] = size, packed

    def drop(self, sample: Sample) -> None:
        """From now on nothing is known of this image."""
        self._kept.pop(sample.name, None)


def read_masks(samples: Sequence[Sample], max_pixels: int, skip: bool = False, budget: int = 10**9) -> Masks | None:
    """Read and check the masks of a test set; None if it has none.

    Normal images without a mask are normal all over. UserError: a mask that cannot be read, has another size than its image,
    marks nearly all of it, or any of a normal image; or masks that look inverted. With `skip` a warning instead: of such
    images the pixel metrics know nothing, nor do they, always with a warning, of abnormal images with an empty mask.
    """
    if not any(sample.masks for sample in samples):
        return None
    masks, shares, unusable, grey = Masks(max_pixels, budget), {}, {}, []

    def refuse(sample: Sample, error: UserError) -> None:
        if not skip:
            raise error
        masks.drop(sample)
        unusable[sample] = error.reason if isinstance(error, ImageFileError) else str(error)

    def read(sample: Sample) -> tuple[tuple[int, int], Bools | None, list[Path]] | None:
        try:
            size = read_size(sample.path, max_pixels) if sample.path else None
        except UnreadableImageError:
            return None  # decoding will say so, or leave it out
        if not sample.masks:
            return size and (size, None, [])
        mask, cut = _united(sample, max_pixels)
        return mask.shape, mask, cut

    for sample, found in in_flight(samples, read, UserError if skip else ()):
        if isinstance(found, UserError):
            refuse(sample, found)
        elif found is not None:
            size, mask, cut = found
            masks.keep(sample, size, mask)
            grey += cut
            if sample.masks:
                shares[sample] = 0.0 if mask is None else float(mask.mean())
    _check_inverted(shares, skip)
    for sample, share in shares.items():
        if share > (0 if sample.label == NORMAL else _NEARLY_ALL):
            refuse(sample, _wrong(sample, share))
    empty = [sample for sample, share in shares.items() if sample.label == ABNORMAL and share == 0]
    for sample in empty:
        masks.drop(sample)
    _tell(masks, grey, empty, unusable, sum(sample.label == ABNORMAL for sample in samples))
    return masks


def _united(sample: Sample, max_pixels: int) -> tuple[Bools, list[Path]]:
    """All masks of a sample in one, and which of them were grey; UserError also if one has another size than the image."""
    united, grey = None, []
    for path in sample.masks:
        mask, cut = load_mask(path, max_pixels)
        if sample.path is not None and mask.shape != (expected := read_size(sample.path, max_pixels)):
            raise UserError(
                f"mask {path} has (height, width) = {mask.shape} but its image {sample.path} has {expected}: "
                "save the mask at the size of the image"
            )
        united = mask if united is None else united | mask
        grey += [path] if cut else []
    assert united is not None, "a sample without masks has none to read"
    return united, grey


def _check_inverted(shares: dict[Sample, float], skip: bool) -> None:
    """UserError, or with `skip` a warning, if all of several masks mark more than half of their image."""
    marked = {sample: share for sample, share in shares.items() if share > 0}
    if len(marked) < _FEW or min(marked.values()) <= _MOST:
        return
    first, share = next(iter(marked.items()))
    problem = (
        f"all {len(marked)} masks mark more than half of their image ({first.masks[0]}: {share:.0%}): they look inverted; "
        "white, or any value but 0, must mark the defect"
    )
    used = f"{sum(share <= _NEARLY_ALL for share in marked.values())} of them count as they are"
    if not skip:
        raise UserError(f"{problem}; invert them; with data.on_error=skip {used}")
    log.warning("%s; %s", problem, used)


def _wrong(sample: Sample, share: float) -> UserError:
    if sample.label == NORMAL:
        what, remedy = "an image that is labelled normal as abnormal", "correct the label or the mask"
    else:
        what, remedy = (
            "its image as abnormal: is it inverted? White, or any value but 0, must mark the defect",
            "mend it",
        )
    return ImageFileError(
        f"mask {sample.masks[0]} marks {share:.1%} of {what}",
        f"{remedy}, or leave the image out of the pixel metrics with data.on_error=skip",
    )


def _tell(
    masks: Masks, grey: Sequence[Path], empty: Sequence[Sample], unusable: dict[Sample, str], abnormal: int
) -> None:
    """One line of the log of each kind of what is not as it should be; and the note."""
    if grey:
        log.warning(
            "%d mask(s) hold shades of grey and are cut at half of their range (saved as JPEG, or resized?): %s",
            *(len(grey), shorten([str(path) for path in grey])),
        )
    if unusable:
        log.warning("%d mask(s) cannot be used: %s", len(unusable), shorten(list(unusable.values())))
    if empty:
        log.warning("%d abnormal image(s) have an empty mask: %s", len(empty), _names(empty))
    notes = [f"{len(grey)} grey mask(s) were cut at half of their range"] if grey else []
    kinds = (("an empty mask", empty), ("a mask that cannot be used", list(unusable)))
    said = [f"{len(of)} image(s) with {kind} ({_names(of)})" for kind, of in kinds if of]
    if said:
        left = abnormal - sum(sample.label == ABNORMAL for sample in {*empty, *unusable})
        end = (
            f"{left} of {abnormal} abnormal images are left" if left else "no abnormal image is left, so they are null"
        )
        notes.append(f"the pixel metrics leave out {' and '.join(said)}; {end}")
    masks.note = "; ".join(notes)


def _names(samples: Sequence[Sample]) -> str:
    return shorten([sample.name for sample in samples])
