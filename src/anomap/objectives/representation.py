"""What the two stages work on: pixels, or whitened feature maps of a frozen encoder."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomap.config import check_whole
from anomap.memory import give_back_memory
from anomap.networks.encoder import PretrainedEncoder
from anomap.networks.layout import beside
from anomap.objectives.base import resized, to_signed, to_unit
from anomap.objectives.density import Mixture, fit_to_cells
from anomap.objectives.whitening import Scaling, Whitening, full_precision

_AT_ONCE = 16  # images whose kept features are taken together


class Representation(nn.Module):
    """Images (B, C, H, W) in [0, 1] -> (B, F, h, w): the local channels, then those of context, detail and density."""

    stride = grid_stride = 1  # of which an image's sides must be multiples; how many pixels go to a cell
    local_channels = context_channels = detail_channels = density_channels = 0

    def learn_statistics(self, batches: Iterable[Tensor]) -> None:
        """Learn what has a closed form from the training images, in stored order."""

    def clean(self, images: Tensor, index: Tensor) -> Tensor:
        """The representation of unchanged training images; `index` (B,), in stored order, may lie on the CPU."""
        return self(images)

    def clean_batches(self, batches: Iterable[Tensor]) -> Iterable[Tensor]:
        """The representation of all training images, in order."""
        return map(self, batches)

    def forget(self) -> None:
        """Keep no representation of training images, whose order will not be that of the statistics."""

    def local(self, x: Tensor) -> Tensor:
        """The local channels of a representation: what a generator reconstructs."""
        return x[:, : self.local_channels]

    def image(self, x: Tensor) -> Tensor | None:
        """Back to an image in [0, 1], where there is a way."""

    def mask(self, mask: Tensor) -> Tensor:
        """A mask on the grid: a cell is abnormal if anything in it is."""
        return F.max_pool2d(mask, self.grid_stride)


class Pixels(Representation):
    """Images of so many channels themselves, scaled to tanh's range [-1, 1]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local_channels = channels

    def forward(self, images: Tensor) -> Tensor:
        return to_signed(images)

    def image(self, x: Tensor) -> Tensor:
        return to_unit(x)


class WhitenedFeatures(Representation):
    """Feature maps of a frozen encoder and the raw brightness, whitened on the clean training images; always in float32.

    Groups of channels lie side by side on the grid of the first local map:

    - *local*, what a cell looks like: the encoder's local maps, each averaged over 3x3 cells, and the brightness of the cell and
      of the whole image, which the encoder's normalisations discard; whitened.
    - *context*, what it belongs to: the encoder's further maps, whitened; for a `cell` head and the whole-image density.
    - *detail*, where an outline runs: a finer map, standardised, folded onto the grid (`F.pixel_unshuffle`); for a `fine` head.

    Features of the clean training images are kept, on their device, if they need no more than `cache_mb`.
    """

    def __init__(self, encoder: PretrainedEncoder, ridge: float = 1e-4, cache_mb: float = 2048) -> None:
        super().__init__()
        self.encoder = encoder
        self.stride, self.grid_stride = encoder.stride, encoder.grid_stride
        self.local_channels = sum(encoder.local_channels) + 2
        self.context_channels = sum(encoder.context_channels)
        self.detail_channels = 4 * sum(encoder.detail_channels)
        self.cache_mb = cache_mb
        self.whiten_local = Whitening(self.local_channels, ridge)
        self.whiten_context = Whitening(self.context_channels, ridge)
        self.scale_detail = Scaling(self.detail_channels)
        self._cache: tuple[Tensor, ...] | None = None  # (N, F, h, w) of each group, in the training set's order
        self.requires_grad_(False)

    @full_precision
    def raw(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, H, W) in [0, 1] -> local, context and detail as the encoder gives them; the context on its own coarser grid."""
        maps = self.encoder(images)
        first = len(self.encoder.detail_channels)
        last = first + len(self.encoder.local_channels)
        local = [F.avg_pool2d(level, 3, 1, 1) for level in maps[first:last]]
        brightness = F.adaptive_avg_pool2d(images.mean(1, keepdim=True), (local[0].shape[2], local[0].shape[3]))
        whole = brightness.mean((2, 3), keepdim=True).expand_as(brightness)
        nothing = brightness[:, :0]
        detail = F.pixel_unshuffle(maps[0], 2) if first else nothing
        return _on_grid([*local, brightness, whole]), _on_grid(maps[last:] or [nothing]), detail

    def groups(self, local: Tensor, context: Tensor, detail: Tensor) -> tuple[Tensor, ...]:
        """The groups of `raw` as the networks see them."""
        context = self.whiten_context(context) if self.context_channels else context
        return self.whiten_local(local), context, self.scale_detail(detail)

    @torch.no_grad()
    @full_precision
    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, F, h, w); no gradient: the encoder is frozen."""
        return _on_grid(self.groups(*self.raw(images)))

    @torch.no_grad()
    def learn_statistics(self, batches: Iterable[Tensor]) -> None:
        """Load the encoder's weights, learn the whitening and fill the cache, in one pass over the training images."""
        self.encoder.load_pretrained()
        scalings = (self.whiten_local, self.whiten_context, self.scale_detail)
        kept: list[tuple[Tensor, Tensor, Tensor]] = []
        size = 0.0
        for images in batches:
            raw = self.raw(images)
            for scaling, group in zip(scalings, raw, strict=True):
                scaling.add(group)
                size += group.nbytes / 1e6
            kept.append(raw)
            if size > self.cache_mb:
                kept.clear()
            if kept and len(kept) % 8 == 0:
                give_back_memory()  # what is kept leaves holes between, which may add up to as much again
        for scaling in scalings:
            scaling.finish()
        self._cache = self._seen(kept) if kept else None

    def _seen(self, raw: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, ...]:
        """`groups` of all of `raw`, one tensor each; empties `raw` meanwhile, so that both never lie side by side."""
        lengths = [len(groups[0]) for groups in raw]
        whole = tuple(group.new_empty(sum(lengths), *group.shape[1:]) for group in raw[0])
        for parts in zip(*(group.split(lengths) for group in whole), strict=True):
            # not self.groups: what a subclass adds may not be learned yet
            for part, group in zip(parts, WhitenedFeatures.groups(self, *raw.pop(0)), strict=True):
                part.copy_(group)
            if len(raw) % 4 == 0:
                give_back_memory()  # that of the batches, or all features would be in memory twice
        return whole

    def clean(self, images: Tensor, index: Tensor) -> Tensor:
        if self._cache is None:
            return self(images)
        return _on_grid([group[index.to(group.device, non_blocking=True)] for group in self._cache])

    def forget(self) -> None:
        self._cache = None

    def clean_batches(self, batches: Iterable[Tensor]) -> Iterable[Tensor]:
        if self._cache is None:
            return map(self, batches)
        return map(_on_grid, zip(*(group.split(_AT_ONCE) for group in self._cache), strict=True))

    def clean_local(self, batches: Iterable[Tensor]) -> Iterable[Tensor]:
        """The whitened local features (B, F, h, w) of all training images, in order; only these are computed, if any."""
        return map(self.seen_local, batches) if self._cache is None else self._cache[0].split(_AT_ONCE)

    @torch.no_grad()
    def seen_local(self, images: Tensor) -> Tensor:
        """The whitened local features (B, F, h, w) of images (B, C, H, W) in [0, 1]."""
        return self.whiten_local(self.raw(images)[0])

    @property
    def cached(self) -> bool:
        """Whether the features of the training images are kept."""
        return self._cache is not None

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> "WhitenedFeatures":
        """The cache moves along to another device, so that no step waits for an index or for features."""
        if self._cache is not None:
            self._cache = tuple(fn(group) for group in self._cache)
        return super()._apply(fn, *args, **kwargs)


class DenseFeatures(WhitenedFeatures):
    """Whitened features and, as one more channel, how rare each cell is under a mixture of normal features, standardised."""

    density_channels = 1

    def __init__(
        self,
        encoder: PretrainedEncoder,
        components: int = 24,  # of the mixture, at most
        samples: int = 80_000,  # cells that it is fitted to
        **options: float,
    ) -> None:
        super().__init__(encoder, **options)
        check_whole("samples", samples, 1)
        self.mixture = Mixture(components)
        self.scale_rarity = Scaling(1)
        self.samples = samples

    def groups(self, local: Tensor, context: Tensor, detail: Tensor) -> tuple[Tensor, ...]:
        found = super().groups(local, context, detail)
        return (*found, self.scale_rarity(self.mixture(found[0])))

    def rarity(self, x: Tensor) -> Tensor:
        """(B, F, h, w) -> (B, 1, h, w), in standard deviations of normal cells, higher = rarer."""
        return x[:, -1:]

    @torch.no_grad()
    def learn_statistics(self, batches: Iterable[Tensor]) -> None:
        """Learn the whitening, then the mixture and its scale; the cache then holds the rarity too."""
        super().learn_statistics(batches)
        fit_to_cells(self.mixture, self.clean_local(batches), self.samples)
        rarities = [self.mixture(local) for local in self.clean_local(batches)]
        for rarity in rarities:
            self.scale_rarity.add(rarity)
        self.scale_rarity.finish()
        if self._cache is not None:
            self._cache = (*self._cache, self.scale_rarity(torch.cat(rarities)))


def _on_grid(maps: Sequence[Tensor]) -> Tensor:
    """Maps side by side on the grid of the first, the others resized bilinearly."""
    return beside([resized(level, maps[0].shape[-2:]) for level in maps])
