"""What the two stages work on: pixels, or whitened feature maps of a frozen encoder."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomap.networks.encoder import PretrainedEncoder
from anomap.objectives.base import resized, to_signed, to_unit
from anomap.objectives.precision import full_precision
from anomap.objectives.whitening import Whitening


class Pixels(nn.Module):
    """Images themselves, scaled to tanh's range [-1, 1].

    Args:
        channels: of the images.
    """

    stride = grid_stride = 1
    context_channels = 0

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = self.local_channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """[0, 1] -> [-1, 1]."""
        return to_signed(images)

    def clean(self, images: Tensor, index: Tensor) -> Tensor:
        """The representation of unchanged training images."""
        del index
        return self(images)

    def local(self, representation: Tensor) -> Tensor:
        """What a generator reconstructs: all of it."""
        return representation

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


class WhitenedFeatures(nn.Module):
    """Feature maps of a frozen encoder and the raw brightness, whitened on the clean training images; always in float32.

    Two groups of channels, whitened apart, lie side by side on the grid of the finest map:

    - *local*: the encoder's local maps, each averaged over 3x3 cells, and two channels of the brightness that the encoder's
      normalisations discard: that of the cell and that of the whole image. What a cell looks like.
    - *context*: the encoder's further maps. What a cell belongs to; the map head and the whole-image density see it.

    Args:
        encoder: images -> feature maps.
        ridge: of the whitening.
        cache_mb: features of the clean training images are kept, on the device they were made on, if they need less than this.

    Attributes:
        stride: the sides of an image must be multiples of it.
        grid_stride: pixels of the image to a cell.
        channels: `local_channels` and `context_channels` together.
    """

    def __init__(self, encoder: PretrainedEncoder, ridge: float = 1e-4, cache_mb: float = 2048) -> None:
        super().__init__()
        self.encoder = encoder
        self.stride, self.grid_stride = encoder.stride, encoder.grid_stride
        self.local_channels = sum(encoder.local_channels) + 2
        self.context_channels = sum(encoder.context_channels)
        self.channels = self.local_channels + self.context_channels
        self.cache_mb = cache_mb
        self.whiten_local = Whitening(self.local_channels, ridge)
        self.whiten_context = Whitening(self.context_channels, ridge)
        self._cache: tuple[Tensor, Tensor] | None = None  # (N, F, h, w) float32, whitened, in the training set's order
        self.requires_grad_(False)

    @full_precision
    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) in [0, 1] -> local and context features before whitening; the context on its own coarser grid."""
        maps = self.encoder(images)
        count = len(self.encoder.local_channels)
        local = [F.avg_pool2d(level, 3, 1, 1) for level in maps[:count]]
        grid = local[0].shape[2], local[0].shape[3]
        brightness = F.adaptive_avg_pool2d(images.mean(1, keepdim=True), grid)
        whole = brightness.mean((2, 3), keepdim=True).expand_as(brightness)
        return _on_grid([*local, brightness, whole]), _on_grid(maps[count:] or [brightness[:, :0]])

    def whiten(self, local: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Both groups of `raw`, decorrelated with variance 1 on the training normals."""
        return self.whiten_local(local), self.whiten_context(context) if self.context_channels else context

    @torch.no_grad()
    @full_precision
    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, F, h, w), local channels first; no gradient: the encoder is frozen."""
        return _on_grid(self.whiten(*self.raw(images)))

    def clean(self, images: Tensor, index: Tensor) -> Tensor:
        """The representation of unchanged training images, from the cache if there is one; then `index` lies on its device."""
        if self._cache is None:
            return self(images)
        return _on_grid([group[index] for group in self._cache])

    def local(self, representation: Tensor) -> Tensor:
        """What a generator reconstructs: the local channels (B, F_local, h, w)."""
        return representation[:, : self.local_channels]

    def image(self, representation: Tensor) -> Tensor | None:
        """There is no way back to pixels."""
        del representation

    def mask(self, mask: Tensor) -> Tensor:
        """The mask on the grid: a cell is abnormal if anything in it is."""
        return F.max_pool2d(mask, self.grid_stride)

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Load the encoder's weights, learn the whitening, and fill the cache, in one pass over the training images in order."""
        self.encoder.load_pretrained()
        kept: list[tuple[Tensor, Tensor]] | None = []
        size = 0.0
        for images in batches:
            local, context = self.raw(images)
            self.whiten_local.add(local)
            self.whiten_context.add(context)
            size += (local.nbytes + context.nbytes) / 1e6
            kept = None if kept is None or size > self.cache_mb else [*kept, (local, context)]
        self.whiten_local.finish()
        if self.context_channels:
            self.whiten_context.finish()
        self._cache = None if kept is None else self._whitened(kept)

    def _whitened(self, raw: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """All of `raw` whitened, as one tensor for each group; empties `raw` meanwhile, so that both never lie side by side."""
        count, (local, context) = sum(len(local) for local, _ in raw), raw[0]
        whole = local.new_empty(count, *local.shape[1:]), context.new_empty(count, *context.shape[1:])
        start = 0
        while raw:
            groups = self.whiten(*raw.pop(0))
            end = start + len(groups[0])
            for target, group in zip(whole, groups, strict=True):
                target[start:end] = group
            start = end
        return whole

    def clean_batches(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """The whitened features of all training images, in order, from the cache or else computed from `batches`."""
        if self._cache is None:
            yield from (self(images) for images in batches)
        else:
            yield from (_on_grid(groups) for groups in zip(*(group.split(64) for group in self._cache), strict=True))

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> "WhitenedFeatures":
        """The cache moves along to another device, so that no step waits for an index or for features."""
        if self._cache is not None:
            local, context = self._cache
            self._cache = fn(local), fn(context)
        return super()._apply(fn, *args, **kwargs)


def _on_grid(maps: Sequence[Tensor]) -> Tensor:
    """Maps side by side on the grid of the first, the others resized bilinearly."""
    return torch.cat([resized(level, maps[0].shape[-2:]) for level in maps], dim=1)


Representation = Pixels | WhitenedFeatures
