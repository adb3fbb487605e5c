"""What a training would make of a data set, and what is wrong with it, before anything is trained. Needs no torch.

Headers of all files are read, pixels of some. The lines that a training would log are heard from the functions that log them.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anomap.config import AUTO
from anomap.data.aligned import FEWEST, check_aligned, check_setting
from anomap.data.checks import check_bands, check_fraction, check_image_size, check_intensity_range, check_share
from anomap.data.decode import in_flight
from anomap.data.differences import differences, mixed_shapes, roles
from anomap.data.files import printable, shorten
from anomap.data.images import Size as AnySize
from anomap.data.images import convert, load_image
from anomap.data.layouts.named import build_layout
from anomap.data.leakage import without_test_copies
from anomap.data.masks import read_masks
from anomap.data.near_copies import find_near_copies
from anomap.data.reading import EIGHT_BITS, read_size
from anomap.data.samples import ABNORMAL, Sample, Scan, split_calibration, spread
from anomap.data.settle import (
    SAMPLE,
    absolute_folders,
    look_at,
    natural_range,
    numbers,
    one_range,
    preliminary,
    settled,
    small_share,
)
from anomap.data.shrink import SURVIVES, masked_defects, shrink_factors, smallest_surviving, too_small
from anomap.data.tiles import finest_scale, tiling_of
from anomap.errors import UserError
from anomap.intervals import rate_interval

Value = float | int | str | None
Size = tuple[int, int]
_REFUSED = ("cannot be used", "inverted")  # of the lines about masks, those at which a training stops
_LOG = logging.getLogger("anomap.data")


@dataclass
class Check:
    """What was found: for people, for programs, what to worry about, and what to set."""

    rows: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Value] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)  # overrides: key -> value
    normal: list[Sample] = field(default_factory=list)  # to learn from and to calibrate on
    aligned: bool = False  # whether images would be compared place by place
    same: Mapping[str, str] = field(default_factory=dict)  # of `split_calibration`

    def skip(self, warning: str, data: Mapping[str, Any]) -> None:
        """A warning of what a training stops at unless `data.on_error=skip`."""
        self.warnings.append(warning)
        if data.get("on_error") != "skip":
            self.settings["data.on_error"] = "skip"


def examine(data: Mapping[str, Any], pixels: int) -> Check:
    """Look at a plain `data` group: at the headers of all files, and at the pixels of at most so many images.

    UserError: what no training could begin with.
    """
    check, given = Check(), absolute_folders(data)
    with heard(check.warnings):
        plain = preliminary({"data": given})["data"]
        check_fraction("calibration_fraction", plain["calibration_fraction"])
        check_image_size(plain["image_size"])
        check_intensity_range(plain.get("intensity_range"))
        check_setting(given.get("aligned", False))
        check_share("contamination", plain.get("contamination", 0.0))
        found = build_layout(plain).scan()
        data = settled(given, found)
        _sets(check, found, data)
        sizes = _sizes(check, found, data)
        check.warnings += [*differences(found, sizes), *mixed_shapes(sizes["train"], data)]
        _shrink(check, sizes["train"] or [size for part in sizes.values() for size in part], given, data)
        data = _values(check, found, given, data)
        _aligned(check, found, sizes["train"], data)
        _masks(check, found, data, pixels)
        _copies(check, found, data, pixels)
    if any("data.tile=auto" in line for line in check.warnings):
        check.settings["data.tile"] = AUTO
    return check


@contextmanager
def heard(into: list[str]) -> Iterator[None]:
    """Collect the warnings that the functions of this package log, instead of logging them."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            into.append(record.getMessage())

    listener, before = Listener(logging.WARNING), _LOG.propagate
    _LOG.addHandler(listener)
    _LOG.propagate = False
    try:
        yield
    finally:
        _LOG.removeHandler(listener)
        _LOG.propagate = before


def _sets(check: Check, found: Scan, data: Mapping[str, Any]) -> None:
    """How many images there are, for what; and copies byte for byte."""
    try:
        normal, check.same = without_test_copies(found)
    except UserError as error:
        quiet: list[str] = []
        with heard(quiet):
            normal, check.same = without_test_copies(found, leave_out=True)
        check.warnings[:] = [line for line in check.warnings if "left out of training" not in line]
        check.skip(str(error), data)
    check.normal = normal
    parts: tuple[list[Sample], list[Sample]] = ([], [])
    if found.train:
        parts = limited(split_calibration(normal, data["calibration_fraction"], check.same), data.get("limit"))
        check.rows["training"] = (
            f"{len(normal)} normal images: {len(parts[0])} to learn from, {len(parts[1])} to calibrate"
        )
    test = {role: len(part) for role, part in roles(found).items() if role != "train"}
    defects = Counter(sample.defect for sample in found.test if sample.label == ABNORMAL)
    if found.test:
        kinds = ", ".join(f"{printable(name)} {count}" for name, count in sorted(defects.items()))
        check.rows["test"] = f"{test['test normal']} normal, {test['test abnormal']} abnormal ({kinds or 'none'})"
        if count := test["test normal"]:
            most = 100 * rate_interval(0, count).high
            check.rows["test"] += f"; no false alarm among {count} would still allow {most:.0f} % of them"
    else:
        check.rows["test"] = "none"
    if found.left_out:
        check.rows["left out"] = found.left_out.partition(": ")[2]
    check.facts |= {
        "n_train": len(parts[0]),
        "n_calibration": len(parts[1]),
        "n_test_normal": test["test normal"],
        "n_test_abnormal": test["test abnormal"],
        "n_left_out_of_training": len(found.train) - len(normal),
        "n_exact_copies": len(check.same) - len({*check.same.values()}),
        "left_out": found.left_out or None,
    }


def limited(parts: tuple[list[Sample], list[Sample]], limit: int | None) -> tuple[list[Sample], list[Sample]]:
    """Training and calibration images, of each no more than `data.limit`."""
    return parts if limit is None else (spread(parts[0], limit), spread(parts[1], limit))


def _sizes(check: Check, found: Scan, data: Mapping[str, Any]) -> dict[str, list[Size]]:
    """(H, W) of all images by role, from their headers."""
    sizes: dict[str, list[Size]] = {}
    broken: list[UserError] = []
    for role, part in roles(found).items():
        samples = part if found.pixels is None else spread(part, SAMPLE)
        read = in_flight(samples, lambda sample: _size(sample, found, data), UserError)
        sizes[role] = []
        for _, size in read:
            if isinstance(size, tuple):
                sizes[role].append(size)
            else:
                broken.append(size)
    if broken:
        check.skip(f"{len(broken)} of {sum(map(len, roles(found).values()))} files cannot be read: {broken[0]}", data)
    everything = [size for part in sizes.values() for size in part]
    if everything:
        check.rows["sizes"] = _of_sizes(everything)
        (low_h, low_w), (high_h, high_w) = min(everything, key=math.prod), max(everything, key=math.prod)
        check.facts |= {"smallest": f"{low_w}x{low_h}", "largest": f"{high_w}x{high_h}"}
    check.facts |= {"n_sizes": len({*everything}), "n_unreadable": len(broken)}
    return sizes


def _size(sample: Sample, found: Scan, data: Mapping[str, Any]) -> Size:
    if sample.path is not None:
        return read_size(sample.path, data.get("max_pixels") or 2**62)
    assert found.pixels is not None
    height, width = found.pixels(sample).shape[:2]
    return height, width


def _of_sizes(sizes: Sequence[Size]) -> str:
    kinds = Counter(sizes)
    if len(kinds) == 1:
        return f"{sizes[0][1]} x {sizes[0][0]} all"
    (low_h, low_w), (high_h, high_w) = min(kinds, key=math.prod), max(kinds, key=math.prod)
    (height, width), most = kinds.most_common(1)[0]
    return (
        f"{low_w} x {low_h} to {high_w} x {high_h}: {len(kinds)} different, {width} x {height} most often "
        f"({most} of {len(sizes)})"
    )


def _shrink(check: Check, sizes: Sequence[Size], given: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """What is lost on the way to the network, in the median photograph."""
    if not sizes:
        return
    size = sorted(sizes, key=math.prod)[len(sizes) // 2]
    factors, least = shrink_factors(size, data), smallest_surviving(size, data)
    need = f"a defect needs about {SURVIVES} pixels there"
    own = f"{least:.0f} of a photograph of {size[1]} x {size[0]}"
    if data.get("tile") is not None:
        auto = " (auto)" if given.get("tile") == AUTO else ""
        how = f"tiles of {data['tile']} pixels{auto}, photographs at {data['scale']:g} of their size"
    else:
        height, width = (side * finest_scale(data) for side in check_image_size(data["image_size"]))
        looks = f", the last of looks at scales {', '.join(map(str, data['scales']))}" if data.get("scales") else ""
        how = f"to {width} x {height}, by {factors[1]:.3g} x {factors[0]:.3g}{looks}"
    check.rows["shrunk"] = f"{how}; {need}, so {own}"
    check.facts |= {"shrink": max(factors), "smallest_surviving": least}


def _values(check: Check, found: Scan, given: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Colours and intensities of a sample; the `data` group with which all of it can be read."""
    bands = check_bands(data.get("bands"))
    looks = look_at(spread(found.train or found.test, SAMPLE), found.pixels, data.get("max_pixels"), bands)
    tested = look_at(spread(found.test, SAMPLE), found.pixels, data.get("max_pixels"), bands) if found.train else []
    if not looks:
        return dict(data)
    grey = all(look.grey for look in looks)
    channels = f"data.channels={data['channels']}" + (" by auto" if given.get("channels") == AUTO else "")
    colours = sum(not look.grey for look in looks)
    check.rows["colour"] = (
        f"{'all grey' if grey else 'colour' if colours == len(looks) else f'{colours} in colour, the others grey'} "
        f"({len(looks)} looked at); {channels}"
    )
    if grey and all(look.grey for look in tested) and data["channels"] == 3:
        check.settings["data.channels"] = "1"
        check.warnings.append(
            "all images are grey and are read as colour: data.channels=1 does with a third of the values"
        )
    if grey and data["channels"] == 1 and (coloured := sum(not look.grey for look in tested)):
        check.warnings.append(
            f"training images are grey, but {coloured} of {len(tested)} test images looked at are in colour, which is not seen"
        )
    kinds = sorted({look.kind for look in looks})
    low, high = min(look.low for look in looks), max(look.high for look in looks)
    limits = {look.limits for look in looks}
    bits = f", {math.ceil(math.log2(high + 1))} bits" if all(look.whole for look in looks) and low >= 0 < high else ""
    of = f" of {looks[0].limits[0]:g} to {looks[0].limits[1]:g}" if len(limits) == 1 and looks[0].limits else ""
    check.rows["values"] = f"{' and '.join(kinds)}: {low:g} to {high:g}{of}{bits}"
    check.facts |= {"grey": int(grey), "value_type": " ".join(kinds), "lowest": low, "highest": high}
    if data.get("intensity_range") is not None:
        check.rows["values"] += f"; data.intensity_range=[{numbers(data['intensity_range'])}]"
        return dict(data)
    if None in limits:
        check.settings["data.intensity_range"] = AUTO
        check.warnings.append(
            f"{' and '.join(kinds)} values have no natural range: training stops without data.intensity_range"
        )
        return {**data, "intensity_range": one_range(looks)}
    if small_share(looks) is not None:
        check.settings["data.intensity_range"] = f"[{numbers(natural_range(low, high))}]"
    return dict(data)


def _aligned(check: Check, found: Scan, sizes: Sequence[Size], data: Mapping[str, Any]) -> None:
    """Whether images would be compared place by place, by a few of those that a training would look at."""
    tiling = tiling_of(data)
    size = None if tiling is None else tiling.reads(data["scale"])
    few = spread(check.normal, FEWEST)
    read = in_flight(few, lambda sample: _decoded(sample, found, data, size), UserError)
    photographs = [image for _, image in read if isinstance(image, np.ndarray)]
    aligned = data.get("aligned", False)
    one_size = tiling is None or len({*sizes}) == 1  # of all: the few may be of one by chance
    check.aligned = (aligned is True or one_size) and check_aligned(aligned, photographs, tiling)
    if check.aligned:
        check.rows["aligned"] = (
            "the same thing at the same place: each image is also compared with others place by place"
        )
    check.facts["aligned"] = int(check.aligned)


def _masks(check: Check, found: Scan, data: Mapping[str, Any], pixels: int) -> None:
    """Their state, and how large what they mark is."""
    some = spread(found.test, pixels)
    before = len(check.warnings)
    masks = read_masks(some, data.get("max_pixels") or 2**62, skip=True)
    count = sum(bool(sample.masks) for sample in found.test)
    check.facts["n_masks"] = count
    if masks is None:
        check.rows["masks"] = "none: pixel metrics and outlines cannot be measured" if found.test else "none"
        return
    if data.get("on_error") != "skip" and any(word in line for word in _REFUSED for line in check.warnings[before:]):
        check.settings["data.on_error"] = "skip"
    defects = masked_defects(some, masks, data)
    check.rows["masks"] = f"{count}" + (
        f", {len(some)} of {len(found.test)} test images looked at" if len(some) < len(found.test) else ""
    )
    if defects:
        least, middle = min(defects, key=lambda d: d.diameter), sorted(d.diameter for d in defects)[len(defects) // 2]
        seen = min(defect.seen for defect in defects)
        check.rows["masks"] += (
            f"; defects from {least.diameter:.0f} pixels across ({printable(least.name)}), half above {middle:.0f}; "
            f"the network sees {seen:.1f} of the smallest"
        )
        check.facts |= {"smallest_defect": least.diameter, "smallest_defect_seen": seen}
        if lost := too_small(defects):
            check.warnings.append(lost)


def _copies(check: Check, found: Scan, data: Mapping[str, Any], pixels: int) -> None:
    """Pairs that were saved again, among images as the network would see them whole."""
    half = max(pixels // 2, pixels - len(found.test))
    normal = spread(check.normal, half)
    tested = spread(found.test, pixels - len(normal))
    arrays: list[Any] = []
    names: list[list[str]] = []
    broken: dict[str, UserError] = {}
    for part in (normal, tested):
        done = list(in_flight(part, lambda sample: _decoded(sample, found, data), UserError))
        good = [(sample.name, image) for sample, image in done if isinstance(image, np.ndarray)]
        broken |= {sample.name: error for sample, error in done if isinstance(error, UserError)}
        arrays.append(np.stack([image for _, image in good]) if good else np.empty((0, 1, 1, 1), np.uint8))
        names.append([name for name, _ in good])
    if broken and not check.facts["n_unreadable"]:
        check.skip(
            f"{len(broken)} of {len(normal) + len(tested)} files looked at cannot be read: {next(iter(broken.values()))}",
            data,
        )
    exact = int(check.facts["n_exact_copies"] or 0) + int(check.facts["n_left_out_of_training"] or 0)
    within = find_near_copies(arrays[0])
    across = find_near_copies(arrays[1], arrays[0]) if len(arrays[1]) else []
    same = check.same
    pairs = [
        f"{one} = {other}"
        for one, other in ((names[0][pair.image], names[0][pair.other]) for pair in within)
        if same.get(one, one) != same.get(other, other)
    ]
    also = [f"{names[1][pair.image]} = {names[0][pair.other]}" for pair in across]
    trained, tested_too = (
        "%d normal images look like others, saved again: %s; where one is trained on and the other calibrates, the threshold is "
        "too low: remove one of each",
        "%d test images look like normal images, saved again: %s; results on them are too good: remove one of each",
    )
    for line, of in ((trained, pairs), (tested_too, also)):
        if of:
            check.warnings.append(line % (len(of), shorten(of)))
    looked = len(names[0]) + len(names[1])
    everything = len(check.normal) + len(found.test)
    check.rows["copies"] = (
        f"{exact or 'none'} byte for byte; {len(pairs) + len(also) or 'none'} saved again among "
        f"{'all' if looked == everything else f'{looked} looked at, of'} {everything} images"
    )
    check.facts |= {"n_near_copies": len(pairs), "n_near_copies_in_test": len(also), "n_looked_at": looked}


def _decoded(sample: Sample, found: Scan, data: Mapping[str, Any], size: AnySize | None = None) -> Any:
    """Uint8 (C, H, W), unless a size is given squeezed to the network's also where a training would cut tiles."""
    size, span = size or check_image_size(data["image_size"]), check_intensity_range(data.get("intensity_range"))
    if sample.path is None:
        assert found.pixels is not None
        return convert(found.pixels(sample), data["channels"], size, span or EIGHT_BITS)
    limit, bands = data.get("max_pixels") or 2**62, check_bands(data.get("bands"))
    return load_image(sample.path, data["channels"], size, span, limit, bands, data.get("background") or "black")
