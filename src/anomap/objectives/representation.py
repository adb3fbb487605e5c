"""What the two stages work on: pixels, or whitened feature maps of a frozen encoder."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomap.networks.encoder import PretrainedEncoder
from anomap.objectives.base import FittedState, to_signed, to_unit


class Pixels(nn.Module):
    """Images themselves, scaled to tanh's range [-1, 1]."""

    stride = 1

    def forward(self, images: Tensor) -> Tensor:
        """[0, 1] -> [-1, 1]."""
        return to_signed(images)

    def clean(self, images: Tensor, index: Tensor) -> Tensor:
        """The representation of unchanged training images."""
        del index
        return self(images)

    def image(self, representation: Tensor) -> Tensor | None:
        """Back to an image in [0, 1]."""
        return to_unit(representation)

    def mask(self, mask: Tensor) -> Tensor:
        """The mask on the grid of the representation."""
        return mask

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Nothing to learn."""
        del batches

    def clean_batches(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """The representation of all training images."""
        yield from (self(images) for images in batches)


class WhitenedFeatures(FittedState):
    """Feature maps of a frozen encoder and the raw brightness, whitened on the clean training images.

    φ(x) = (f(x) - μ) W with W Wᵀ = Σ⁻¹ (PCA whitening, ridge ε of the mean variance): rare directions, in which the large
    variances of normal images drown defects, count as much as frequent ones. Two channels keep the brightness that the
    encoder's normalisations discard: that of the cell and that of the whole image.

    Args:
        encoder: images -> feature maps.
        ridge: ε.
        cache_mb: features of the clean training images are kept (in the end in half precision) if they need less than this.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, encoder: PretrainedEncoder, ridge: float = 1e-4, cache_mb: float = 2048) -> None:
        super().__init__()
        self.encoder = encoder
        self.stride = encoder.coarsest
        self.grid_stride = encoder.stride
        self.channels = encoder.channels + 2
        self.ridge, self.cache_mb = ridge, cache_mb
        self.register_buffer("mean", torch.zeros(self.channels))
        self.register_buffer("matrix", torch.eye(self.channels))
        self._cache: Tensor | None = None  # (N, F, h, w) float16, already whitened, in the training set's order
        self.requires_grad_(False)

    def raw(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> features before whitening (B, F, h, w)."""
        features = self.encoder(images)
        brightness = F.adaptive_avg_pool2d(images.mean(1, keepdim=True), features.shape[-2:])
        whole = brightness.mean((2, 3), keepdim=True).expand_as(brightness)
        return torch.cat([features, brightness, whole], dim=1)

    def whiten(self, features: Tensor) -> Tensor:
        """(B, F, h, w) -> the same shape, decorrelated with variance 1 on the training normals."""
        return F.conv2d(features - self.mean[:, None, None], self.matrix.T[:, :, None, None])

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, F, h, w); no gradient: the encoder is frozen."""
        return self.whiten(self.raw(images))

    def clean(self, images: Tensor, index: Tensor) -> Tensor:
        """The representation of unchanged training images, from the cache if there is one."""
        if self._cache is None:
            return self(images)
        return self._cache[index.cpu()].to(images.device, torch.float32)

    def image(self, representation: Tensor) -> Tensor | None:
        """There is no way back to pixels."""
        del representation

    def mask(self, mask: Tensor) -> Tensor:
        """A cell is abnormal if anything in it is."""
        return F.max_pool2d(mask, self.grid_stride)

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Load the encoder's weights, learn μ and W, and fill the cache, in one pass over the training images in order."""
        self.encoder.load_pretrained()
        kept: list[Tensor] | None = []
        size, count = 0.0, 0
        total = torch.zeros(self.channels, dtype=torch.float64)
        products = torch.zeros(self.channels, self.channels, dtype=torch.float64)
        for images in batches:
            features = self.raw(images)
            rows = features.transpose(0, 1).flatten(1).double()  # (F, B h w)
            total += rows.sum(1)
            products += rows @ rows.T
            count += rows.shape[1]
            size += features.numel() * 4 / 1e6
            # in full precision until whitened: whitening magnifies the rounding of rare directions
            kept = None if kept is None or size > self.cache_mb else [*kept, features]
        mean = total / count
        values, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))
        self.mean.copy_(mean)
        self.matrix.copy_(vectors / (values.clamp(min=0) + self.ridge * values.mean()).sqrt())
        self._cache = None if kept is None else torch.cat([self.whiten(part).half() for part in kept])

    def clean_batches(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """The whitened features of all training images, in order, from the cache or else computed from `batches`."""
        if self._cache is None:
            yield from (self(images) for images in batches)
        else:
            yield from (part.float() for part in self._cache.split(64))


Representation = Pixels | WhitenedFeatures
