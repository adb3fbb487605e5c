"""Single precision that is single precision: no TF32 on a GPU, no bfloat16 on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import backends

_BACKENDS: Any = backends  # whose switches are made at run time
SWITCHES = (_BACKENDS.cudnn.conv, _BACKENDS.cuda.matmul, _BACKENDS.mkldnn.conv, _BACKENDS.mkldnn.matmul)


@contextmanager
def ieee_float32() -> Iterator[None]:
    """Within it, float32 convolutions and matrix products keep all 24 bits, where cuDNN would take the 11 of TF32."""
    before = [switch.fp32_precision for switch in SWITCHES]
    try:
        for switch in SWITCHES:
            switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, value in zip(SWITCHES, before, strict=True):
            switch.fp32_precision = value
