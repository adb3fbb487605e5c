"""Counter-based random numbers: a hash of (seed, epoch, index, stream, position), without any state.

They are the same for any batch size, order, number of workers or device. The hash is the finaliser of SplitMix64
(Steele, Lea and Flood, OOPSLA 2014, https://doi.org/10.1145/2714064.2660195), once per component of the address.
It costs about fifteen small operations however many numbers it makes: ask for all of them at once.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from anomap.augmentation.settings import Interval


def _signed(value: int) -> int:
    """The int64 with the same 64 bits as `value`: torch has no usable unsigned 64-bit arithmetic."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


# Constants as 0-d tensors: with Python numbers a third of the time on small tensors goes into wrapping them.
_INCREMENT, _MULTIPLIER_1, _MULTIPLIER_2 = (
    torch.tensor(_signed(bits)) for bits in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
_SHIFTS = {n: (torch.tensor(n), torch.tensor((1 << (64 - n)) - 1)) for n in (27, 30, 31, 40)}


def _shift_right(bits: Tensor, places: int) -> Tensor:
    """Logical shift: `>>` on int64 copies the sign bit, which the mask takes away again."""
    count, mask = _SHIFTS[places]
    return torch.bitwise_right_shift(bits, count).bitwise_and_(mask)


def _unit(bits24: Tensor) -> Tensor:
    """24-bit integers to float32 in [0, 1)."""
    return bits24.to(torch.float32).mul_(2.0**-24)


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
    """Random numbers of K samples, each found by a name: the order of the calls does not matter."""

    keys: Tensor  # int64 (K,), the hashed address of each sample, on the device where the numbers are made
    host: Tensor | None = None  # the same keys on the CPU, if the caller has them

    @classmethod
    def at(cls, seed: int, epoch: int, index: Tensor) -> "Draw":
        """The numbers of the samples `index` (int64 (K,)) in an epoch; `seed` may be any integer."""
        key = mix(mix(torch.tensor(_signed(seed))) ^ _signed(epoch))
        return cls(mix(key.to(index.device) ^ index.long()))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def device(self) -> torch.device:
        return self.keys.device

    @property
    def on_cpu(self) -> "Draw":
        """The same numbers made on the CPU, for what is decided there; a device is waited for unless `host` is given."""
        return Draw(self.keys.cpu() if self.host is None else self.host)

    def select(self, rows: Tensor) -> "Draw":
        """The numbers of some of the samples: `rows` (int64) points into the K samples, repeats allowed."""
        return Draw(self.keys[rows])

    def fork(self, name: str, number: int | Tensor = 0) -> "Draw":
        """Fresh numbers for the same samples, e.g. for the `number`-th layer (an int, or int64 (K,))."""
        return Draw(mix(self.keys ^ (number + _stream(name))))

    def bits(self, name: str, *shape: int) -> Tensor:
        """64 random bits each, int64 (K, *shape): streams are stretches of one counter from random places on."""
        position = torch.arange(math.prod(shape), device=self.device)
        return mix(self.keys[:, None] ^ (position + _stream(name))).view(len(self), *shape)

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Uniform in [0, 1), float32 (K, *shape): the 24 bits that a float32 can hold exactly, so never 1."""
        return _unit(_shift_right(self.bits(name, *shape), 40))

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal, float32 (K, *shape), by Box and Muller (1958): two numbers from the halves of one hash."""
        count = math.prod(shape)
        bits = self.bits(name, -(-count // 2))
        radius = _unit(_shift_right(bits, 40)).neg_().log1p_().mul_(-2.0).sqrt_()
        angle = _unit(bits.bitwise_and_((1 << 24) - 1)).mul_(2.0 * math.pi)
        both = torch.cat([radius * torch.cos(angle), radius.mul_(torch.sin(angle))], dim=1)
        return both[:, :count].reshape(len(self), *shape)

    def choice(self, name: str, weights: Tensor) -> Tensor:
        """Position in `weights` (float64 (N,), not all zero), each as likely as its share: int64 (K,), on the CPU."""
        edges = weights.cumsum(0)
        return torch.searchsorted(edges, self.on_cpu.uniform(name).double() * edges[-1], right=True)


def between(uniform: Tensor, interval: Interval) -> Tensor:
    """Numbers in [0, 1) spread over [low, high)."""
    low, high = interval
    return low + (high - low) * uniform


def log_between(uniform: Tensor, interval: Interval) -> Tensor:
    """Numbers in [0, 1) spread over [low, high), low > 0, log-uniformly: halving is as likely as doubling."""
    return torch.exp(between(uniform, (math.log(interval[0]), math.log(interval[1]))))


def integer(uniform: Tensor, low: int, high: int) -> Tensor:
    """Numbers in [0, 1) as integers low ... high, both included, int64; exact for fewer than 2^24 of them."""
    return low + (uniform * (high - low + 1)).long()


def sign(uniform: Tensor) -> Tensor:
    """Numbers in [0, 1) as -1 or +1 with equal chances, float32."""
    return 1.0 - 2.0 * (uniform < 0.5)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on `device`; only CUDA need not be waited for: it copies ordinary memory before it returns."""
    return tensor.to(device, non_blocking=device.type == "cuda")
