"""Single precision that is single precision: no TF32 on a GPU, no bfloat16 on a CPU, whatever the process has switched on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import backends

_BACKENDS: Any = backends  # whose switches are made at run time
SWITCHES = (_BACKENDS.cudnn.conv, _BACKENDS.cuda.matmul, _BACKENDS.mkldnn.conv, _BACKENDS.mkldnn.matmul)


@contextmanager
def full_precision() -> Iterator[None]:
    """Within it, float32 convolutions and matrix products keep all 24 bits; the caller's settings come back at the end.

    cuDNN takes TF32 (11 bits) for convolutions by default, so a threshold found on a GPU would not be that of a CPU.
    """
    before = [switch.fp32_precision for switch in SWITCHES]
    try:
        for switch in SWITCHES:
            switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, value in zip(SWITCHES, before, strict=True):
            switch.fp32_precision = value
