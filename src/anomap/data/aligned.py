"""Do training photographs show the same thing at the same place, so that others are compared with them? Needs no torch."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anomap.config import AUTO
from anomap.data.registration import ALIKE, agreement, laid_out, outlines
from anomap.data.samples import spread
from anomap.data.tiles import Tiling
from anomap.errors import UserError

log = logging.getLogger(__name__)

ALIGNED = 0.65  # `agreement` of tiled photographs whose maps are compared place by place
LEAST = 128  # pixels of their shorter side
LOOKED_AT = 8  # photographs, to find that out
FEWEST = 10  # photographs that tell by themselves what is normal at a place
PLACES = 60  # photographs at most that are looked at to learn it, spread evenly


def check_setting(aligned: object) -> None:
    """UserError unless `data.aligned` is auto, true or false."""
    if not (isinstance(aligned, bool) or aligned == AUTO):
        raise UserError(f"data.aligned={aligned}: give auto, true or false")


def check_aligned(aligned: bool | str, photographs: Sequence[NDArray[np.uint8]], tiling: Tiling | None) -> bool:
    """Whether training photographs (C, H, W) are compared place by place; `auto` finds out and says why.

    Several looks are for parts that move as well: there it is to be asked for.

    UserError if they are to be and differ in size.
    """
    if aligned is False or not len(photographs):
        return False
    sizes = {photograph.shape[1:] for photograph in photographs}
    if aligned is True:
        if len(sizes) > 1:
            raise UserError(
                f"data.aligned=true: {len(sizes)} sizes of training photographs, which cannot show the same at the same place; "
                "leave data.aligned out, or crop them to one size"
            )
        return True
    several = tiling is not None and bool(tiling.scales)
    if several or len(sizes) > 1 or min(*sizes.pop()) < LEAST or len(photographs) < FEWEST:
        return False
    planes = [outlines(photograph) for photograph in spread(photographs, LOOKED_AT)]
    found = agreement(planes, laid_out(planes)[1])
    if found < (ALIKE if tiling is None else ALIGNED):
        return False
    log.info(
        "data.aligned=true: training images show the same at the same place (correlation %.2f) and are compared place by place",
        found,
    )
    return True
