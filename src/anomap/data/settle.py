"""What `auto` means for these training files, decided once on a sample of them and stored as numbers in the checkpoint."""

import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anomap.config import AUTO
from anomap.data.checks import check_bands, check_image_size
from anomap.data.decode import in_flight
from anomap.data.reading import EIGHT_BITS, SIXTEEN_BITS, Pixels, read_pixels, read_size
from anomap.data.samples import PixelSource, Sample, Scan, spread
from anomap.data.tiles import choose_tile, finest_scale
from anomap.errors import UserError

log = logging.getLogger(__name__)

# stand for `auto` until the files were looked at
UNSETTLED = {"channels": 3, "intensity_range": None, "tile": None, "aligned": False}
SAMPLE = 32  # training files that are looked at, spread evenly
SMALL = 1 / 8  # of the range of a type: who uses less of it has probably stored fewer bits
_OUTLIERS = 1e-4  # of an image's pixels at either end, hot or dead ones, say nothing about the range
_FOLDERS = ("root", "normal_dir", "abnormal_dir")


@dataclass(frozen=True)
class Look:
    """What one training file holds."""

    grey: bool
    kind: str  # type of its values
    limits: tuple[float, float] | None  # of that type
    low: float
    high: float  # without outliers
    whole: bool  # all values are whole numbers


def settle(config: Mapping[str, Any]) -> tuple[dict[str, Any], Scan]:
    """A plain configuration with numbers for `auto`, also where a model has taken it over, and absolute folders; and what
    the layout found.

    Warns where the files use little of their type's range. UserError: from the layout, or no one range fits the files.
    """
    from anomap.data.build import build_data  # it needs torch, of which `settled` needs none

    data = absolute_folders(config["data"])
    layout = build_data(preliminary({"data": data})["data"]).layout
    found = layout if isinstance(layout, Scan) else layout.scan()
    if data.get("exclude") is not None:  # names instead of a file, which may change or go
        data["exclude"] = [*found.excluded] or None
    return with_data(config, settled(data, found)), found


def settled(data: Mapping[str, Any], found: Scan) -> dict[str, Any]:
    """A plain `data` group with numbers for `auto`; warnings and errors as of `settle`."""
    data = dict(data)
    if AUTO in (data.get("channels"), data.get("intensity_range")) or data.get("intensity_range") is None:
        looks = look_at(
            spread(found.train, SAMPLE), found.pixels, data.get("max_pixels"), check_bands(data.get("bands"))
        )
        of = f"{len(looks)} of {len(found.train)} training files"
        if data.get("channels") == AUTO:
            grey = bool(looks) and all(look.grey for look in looks)
            data["channels"] = 1 if grey else 3
            colours = sum(not look.grey for look in looks)
            said = (
                f"all of {of} are grey"
                if grey
                else f"{colours} of {len(looks)} looked at, of {len(found.train)} training files, are in colour"
                if looks
                else f"none of {len(found.train)} training files could be looked at"
            )
            log.info("data.channels=%d: %s", data["channels"], said)
        if data.get("intensity_range") == AUTO:
            data["intensity_range"] = one_range(looks)
            if data["intensity_range"] is not None:
                log.info("data.intensity_range=[%s]: of %s", numbers(data["intensity_range"]), of)
        elif data.get("intensity_range") is None:
            if doubt := small_share(looks):
                log.warning("%s", doubt)
            data["intensity_range"] = own_range(looks)
    if data.get("tile") == AUTO:
        data["tile"], why = choose_tile(
            sizes_of(spread(found.train, SAMPLE), data.get("max_pixels")), data["image_size"], data["scale"]
        )
        log.info("data.tile=%s: %s", "null" if data["tile"] is None else data["tile"], why)
    elif data.get("tile") is None and "tile" in data and (lost := squeezed(found, data)):
        log.warning("%s", lost)
    if data.get("tile") is not None:
        data["image_size"] = data["tile"]
    return data


def preliminary(config: Mapping[str, Any]) -> dict[str, Any]:
    """A plain configuration with stand-ins for `auto`, before anything is looked at."""
    return with_data(
        config, {key: UNSETTLED.get(key) if value == AUTO else value for key, value in config["data"].items()}
    )


def with_data(config: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """A plain configuration with a settled `data` group, of which a model may have taken over channels and image size."""
    before = config["data"]
    taken = {
        (key, _hashable(before[key])): data[key]
        for key in ("channels", "image_size")
        if before.get(key) != data.get(key)
    }
    return {key: dict(data) if key == "data" else _replaced(value, taken) for key, value in config.items()}


def absolute_folders(data: Mapping[str, Any]) -> dict[str, Any]:
    """A plain `data` group whose folders are the same from everywhere."""
    return {
        key: os.path.abspath(Path(os.path.expanduser(value)))
        if key in _FOLDERS and isinstance(value, str | os.PathLike) and Path(os.path.expanduser(value)).exists()
        else value
        for key, value in data.items()
    }


def look_at(
    samples: Sequence[Sample], pixels: PixelSource | None, max_pixels: int | None, bands: Sequence[int] | None
) -> list[Look]:
    """What files hold; those that cannot be read are left to the decoding, which says so."""

    def look(sample: Sample) -> Look:
        if sample.path is None:
            assert pixels is not None
            return _look(Pixels(pixels(sample), (0.0, 255.0)))
        return _look(read_pixels(sample.path, max_pixels or 2**62, bands))

    return [seen for _, seen in in_flight(samples, look, UserError) if isinstance(seen, Look)]


def squeezed(found: Scan, data: Mapping[str, Any]) -> str | None:
    """A line if photographs lose so much by being squeezed to the network's size that small defects vanish."""
    sizes = sizes_of(spread(found.train, SAMPLE), data.get("max_pixels"))
    seen = [side * finest_scale(data) for side in check_image_size(data["image_size"])]
    tile, why = choose_tile(sizes, seen, 1.0)
    if tile is None:
        return None
    return f"{why}: squeezed, small defects may vanish; data.tile=auto keeps their size, in more time"


def sizes_of(samples: Sequence[Sample], max_pixels: int | None) -> list[tuple[int, int]]:
    """(H, W) of files, by their headers; without those that cannot be read."""
    paths = [sample.path for sample in samples if sample.path is not None]
    sizes = in_flight(paths, lambda path: read_size(path, max_pixels or 2**62), UserError)
    return [size for _, size in sizes if isinstance(size, tuple)]


def _look(pixels: Pixels) -> Look:
    values = np.asarray(pixels.stored)
    grey = values.ndim == 2 or bool((values == values[..., :1]).all())
    shown = values if pixels.alpha is None else values[pixels.alpha > 0]
    flat = shown.ravel()
    flat = flat[np.isfinite(flat)] if flat.dtype.kind == "f" else flat
    if flat.size == 0:
        return Look(grey, values.dtype.name, pixels.limits, 0.0, 0.0, True)
    skipped = int(flat.size * _OUTLIERS)
    ends = np.partition(flat, (skipped, flat.size - 1 - skipped))[[skipped, flat.size - 1 - skipped]]
    whole = flat.dtype.kind in "iub" or bool((flat == np.rint(flat)).all())
    return Look(grey, values.dtype.name, pixels.limits, float(ends[0]), float(ends[1]), whole)


def small_share(looks: Sequence[Look]) -> str | None:
    """A line if files of one type use little of its range; None if they do not, or their types have none."""
    kinds = {(look.kind, look.limits) for look in looks}
    if len(kinds) != 1 or (limits := looks[0].limits) is None:
        return None
    low, high = min(look.low for look in looks), max(look.high for look in looks)
    share = (high - low) / (limits[1] - limits[0])
    if not 0 < share < SMALL:
        return None
    return (
        f"the training files use {share:.1%} of their range ({low:g} to {high:g} of {limits[0]:g} to {limits[1]:g}), so all "
        f"of them look nearly flat: is it data.intensity_range=[{numbers(natural_range(low, high))}], or auto?"
    )


def own_range(looks: Sequence[Look]) -> list[float] | None:
    """[low, high] that the headers of all files name, where it is not that of their type (12 bits in 16), so that an array of
    the same type is read as a file; None otherwise.
    """
    found = {look.limits for look in looks}
    if len(found) != 1 or (limits := found.pop()) is None or limits in (EIGHT_BITS, SIXTEEN_BITS):
        return None
    return [*limits] if limits[0] == 0 else None


def one_range(looks: Sequence[Look]) -> list[float] | None:
    """[low, high] that fits all files; None without any. UserError: files of several types."""
    kinds = sorted({f"{look.kind} up to {look.limits[1]:g}" if look.limits else look.kind for look in looks})
    if len(kinds) > 1:
        raise UserError(
            f"data.intensity_range=auto: training files hold {' and '.join(kinds)}, which have no range in common; save them "
            "as one type, or leave data.intensity_range out where each type's own range is meant"
        )
    if not looks:
        return None
    low, high = min(look.low for look in looks), max(look.high for look in looks)
    return natural_range(low, high, all(look.whole for look in looks))


def natural_range(low: float, high: float, whole: bool = True) -> list[float]:
    """Limits that a camera or a program would have meant by values from `low` to `high`.

    2^k - 1 for whole numbers, [0, 1] and [-1, 1] for fractions; where the values fill little of that, they themselves with
    room for half as much at either end.
    """
    reach = max(high, -low - 1 if whole else -low, 0.0)
    end = float(2 ** max(1, math.ceil(math.log2(reach + 1))) - 1) if whole or reach > 1 else 1.0
    limits = (0.0 if low >= 0 else -end - (1 if whole else 0), end)
    if high - low >= SMALL * (limits[1] - limits[0]):
        return [*limits]
    room = (high - low) / 2 or 1.0
    return [max(limits[0], _rounded(low - room, math.floor)), min(limits[1], _rounded(high + room, math.ceil))]


def _rounded(value: float, towards: Any) -> float:
    """To three digits, or whole."""
    digits = 0 if value == 0 or abs(value) >= 100 else 2 - math.floor(math.log10(abs(value)))
    return towards(value * 10**digits) / 10**digits


def numbers(values: Sequence[float]) -> str:
    """As an override has them, between brackets."""
    return ",".join(f"{value:.10g}" for value in values)


def _replaced(node: Any, taken: Mapping[tuple[str, Any], Any]) -> Any:
    """What is plain, with another value for every (key, value) that was taken over."""
    if isinstance(node, Mapping):
        return {key: taken.get((key, _hashable(value)), _replaced(value, taken)) for key, value in node.items()}
    return [_replaced(value, taken) for value in node] if isinstance(node, list) else node


def _hashable(value: Any) -> Any:
    return repr(value) if isinstance(value, Mapping | list) else value
