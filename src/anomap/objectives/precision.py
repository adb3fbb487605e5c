"""Full precision where rounding would be seen: closed-form statistics and whatever uses them."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Method = TypeVar("Method", bound=Callable[..., Any])


def full_precision(method: Method) -> Method:
    """A method that computes in float32 also under mixed precision; its first argument, if of lower precision, is raised.

    A whitening magnifies rare directions, and energies are differences of large numbers: bfloat16 would tell equal images apart.
    """

    @functools.wraps(method)
    def exact(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_exporting():  # an exported graph knows no autocast
            return method(self, x, *args, **kwargs)
        with torch.autocast(x.device.type, enabled=False):
            low = x.dtype in (torch.bfloat16, torch.float16)
            return method(self, x.float() if low else x, *args, **kwargs)

    return exact  # pyright: ignore[reportReturnType]
