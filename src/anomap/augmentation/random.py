"""Counter-based random numbers: a hash of (seed, epoch, index, stream, position), without any state.

A sample's numbers depend on nothing but its own address, so they are the same for any batch size, order,
number of workers or device. The hash is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014,
https://doi.org/10.1145/2714064.2660195), applied once per component of the address.

    draw = Draw.at(seed=0, epoch=3, index=torch.tensor([7, 2]))
    angle = draw.between("angle", (-45.0, 45.0))  # (2,)
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from anomap.augmentation.interval import Interval


def _signed(value: int) -> int:
    """The int64 with the same 64 bits as `value`: torch has no usable unsigned 64-bit arithmetic."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


# Constants as 0-d tensors: with Python numbers a third of the time on small tensors goes into wrapping them.
_INCREMENT = torch.tensor(_signed(0x9E3779B97F4A7C15))
_MULTIPLIER_1 = torch.tensor(_signed(0xBF58476D1CE4E5B9))
_MULTIPLIER_2 = torch.tensor(_signed(0x94D049BB133111EB))
_SHIFTS = {n: (torch.tensor(n), torch.tensor((1 << (64 - n)) - 1)) for n in (1, 27, 30, 31, 40)}


def _shift_right(bits: Tensor, places: int) -> Tensor:
    """Logical shift: `>>` on int64 copies the sign bit, which the mask takes away again."""
    count, mask = _SHIFTS[places]
    return torch.bitwise_right_shift(bits, count).bitwise_and_(mask)


def mix(bits: Tensor) -> Tensor:
    """One SplitMix64 step on int64: add the increment, then scramble, wrapping around; a bijection."""
    bits = bits + _INCREMENT
    bits = bits.bitwise_xor_(_shift_right(bits, 30)).mul_(_MULTIPLIER_1)
    bits = bits.bitwise_xor_(_shift_right(bits, 27)).mul_(_MULTIPLIER_2)
    return bits.bitwise_xor_(_shift_right(bits, 31))


@cache
def _stream(name: str) -> Tensor:
    """A name's 64 bits; `hash()` will not do, it differs from process to process."""
    return torch.tensor(_signed(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")))


@dataclass(frozen=True)
class Draw:
    """Random numbers of K samples, each found by a name: the order of the calls does not matter.

    Attributes:
        keys: int64 (K,), the hashed address of each sample.
    """

    keys: Tensor

    @classmethod
    def at(cls, seed: int, epoch: int, index: Tensor) -> Draw:
        """The numbers of the samples `index` (int64 (K,)) in an epoch; `seed` may be any integer."""
        key = mix(torch.tensor(_signed(seed)))
        key = mix(key ^ _signed(epoch))
        return cls(mix(key.to(index.device) ^ index.long()))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def device(self) -> torch.device:
        """Where the numbers are made."""
        return self.keys.device

    def select(self, rows: Tensor) -> Draw:
        """The numbers of some of the samples: `rows` (int64) points into the K samples, repeats allowed."""
        return Draw(self.keys[rows])

    def fork(self, name: str, number: int | Tensor = 0) -> Draw:
        """Fresh numbers for the same samples, e.g. for the `number`-th layer (an int, or int64 (K,))."""
        return Draw(mix(self.keys ^ (number + _stream(name))))

    def bits(self, name: str, *shape: int) -> Tensor:
        """64 random bits each: int64 (K, *shape)."""
        position = torch.arange(math.prod(shape), device=self.device)
        # Streams are stretches of one counter, 2^64 long, that start at random places.
        return mix(self.keys[:, None] ^ (position + _stream(name))).view(len(self), *shape)

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Uniform in [0, 1), float32 (K, *shape): the 24 bits that a float32 can hold exactly, so never 1."""
        return _unit(_shift_right(self.bits(name, *shape), 40))

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal, float32 (K, *shape), by Box and Muller (1958) from two halves of one hash."""
        bits = self.bits(name, *shape)
        radius = torch.sqrt(-2.0 * torch.log1p(-_unit(_shift_right(bits, 40))))
        return radius * torch.cos(2.0 * math.pi * _unit(bits & ((1 << 24) - 1)))

    def between(self, name: str, interval: Interval, *shape: int) -> Tensor:
        """Uniform in [low, high], float32 (K, *shape)."""
        low, high = interval
        return low + (high - low) * self.uniform(name, *shape)

    def log_between(self, name: str, interval: Interval, *shape: int) -> Tensor:
        """Log-uniform in [low, high], low > 0, float32 (K, *shape): halving is as likely as doubling."""
        return torch.exp(self.between(name, (math.log(interval[0]), math.log(interval[1])), *shape))

    def integer(self, name: str, low: int, high: int) -> Tensor:
        """Uniform over low ... high, both included: int64 (K,)."""
        return low + _shift_right(self.bits(name), 1) % (high - low + 1)

    def sign(self, name: str) -> Tensor:
        """-1 or +1 with equal chances, float32 (K,)."""
        return 1.0 - 2.0 * (self.bits(name) & 1)

    def choice(self, name: str, weights: Tensor) -> Tensor:
        """Position in `weights` (float (N,), not all zero), each as likely as its share: int64 (K,)."""
        edges = weights.to(self.device, torch.float64).cumsum(0)
        drawn = self.uniform(name).double() * edges[-1]
        return torch.searchsorted(edges, drawn, right=True)


def _unit(bits24: Tensor) -> Tensor:
    """24-bit integers to float32 in [0, 1)."""
    return bits24.to(torch.float32).mul_(2.0**-24)
