"""What a computation costs on any machine: its floating-point operations."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from anomap.networks import convolutions
from anomap.networks.encoder import PretrainedEncoder


def flops(work: Callable[[], object]) -> int:
    """Floating-point operations of matrix products, convolutions and attention, forward and backward; a multiply-add is two.

    Those of the convolutions as the networks define them, padding included, however they are computed.
    """
    from torch.utils.flop_counter import FlopCounterMode  # it loads triton, if that is there

    with as_defined(), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@contextmanager
def as_defined() -> Iterator[None]:
    """Within it anomap's layers compute as PyTorch's do: to count a network's operations, not those of a quicker way."""
    slow = patch.object(convolutions, "pays", lambda x: False)
    unfolded = patch.object(PretrainedEncoder, "fast", lambda encoder, x: encoder.network)
    with slow, unfolded:
        yield
