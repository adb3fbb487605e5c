"""Full precision where rounding would be seen: closed-form statistics and whatever uses them."""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

Self = TypeVar("Self")
Rest = ParamSpec("Rest")
Result = TypeVar("Result")


def full_precision(
    method: Callable[Concatenate[Self, Tensor, Rest], Result],
) -> Callable[Concatenate[Self, Tensor, Rest], Result]:
    """A method that computes in float32 also under mixed precision; its first argument, if of lower precision, is raised.

    A whitening magnifies rare directions, and energies are differences of large numbers. In bfloat16 their rounding would
    tell images apart that are equal.
    """

    @functools.wraps(method)
    def exact(self: Self, x: Tensor, *args: Rest.args, **kwargs: Rest.kwargs) -> Result:
        if torch.compiler.is_exporting():  # an exported graph knows no autocast
            return method(self, x, *args, **kwargs)
        with torch.autocast(x.device.type, enabled=False):
            low = x.dtype in (torch.bfloat16, torch.float16)
            return method(self, x.float() if low else x, *args, **kwargs)

    return exact
