"""Single precision that is single precision: no TF32 on a GPU, no bfloat16 on a CPU, whatever the process has switched on."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import backends

_SWITCHES = (backends.cudnn.conv, backends.cuda.matmul, backends.mkldnn.conv, backends.mkldnn.matmul)


@contextmanager
def full_precision() -> Iterator[None]:
    """Within it, float32 convolutions and matrix products keep all 24 bits; the caller's settings come back at the end.

    cuDNN takes TF32 (11 bits) for convolutions by default, so a threshold found on a GPU would not be that of a CPU.
    """
    before = [switch.fp32_precision for switch in _SWITCHES]
    try:
        for switch in _SWITCHES:
            switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, value in zip(_SWITCHES, before, strict=True):
            switch.fp32_precision = value
