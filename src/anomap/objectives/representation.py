"""What the two stages work on: pixels, or whitened feature maps of a frozen encoder."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomap.networks.encoder import PretrainedEncoder
from anomap.objectives.base import resized, to_signed, to_unit
from anomap.objectives.whitening import Whitening


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
    """Feature maps of a frozen encoder and the raw brightness, whitened on the clean training images.

    Two groups of channels, whitened apart, lie side by side on the grid of the finest map:

    - *local*: the maps of `local_strides`, each averaged over 3x3 cells, and two channels of the brightness that the
      encoder's normalisations discard: that of the cell and that of the whole image. What a cell looks like.
    - *context*: the encoder's coarser maps. What a cell belongs to; the map head and the whole-image density see it.

    Args:
        encoder: images -> feature maps.
        local_strides: of the maps that are local, the encoder's first.
        ridge: of the whitening.
        cache_mb: features of the clean training images are kept (in the end in half precision) if they need less than this.
    """

    def __init__(
        self,
        encoder: PretrainedEncoder,
        local_strides: Sequence[int] = (8, 16),
        ridge: float = 1e-4,
        cache_mb: float = 2048,
    ) -> None:
        super().__init__()
        strides = list(encoder.channels)
        if not local_strides or strides[: len(local_strides)] != list(local_strides):
            raise ValueError(f"local_strides {list(local_strides)}: use the first of the encoder's strides {strides}")
        self.encoder = encoder
        self.stride, self.grid_stride = strides[-1], strides[0]
        self.local_maps = len(local_strides)
        self.local_channels = sum(encoder.channels[stride] for stride in local_strides) + 2
        self.context_channels = sum(encoder.channels.values()) + 2 - self.local_channels
        self.channels = self.local_channels + self.context_channels
        self.cache_mb = cache_mb
        self.whiten_local = Whitening(self.local_channels, ridge)
        self.whiten_context = Whitening(self.context_channels, ridge)
        self._cache: tuple[Tensor, Tensor] | None = None  # (N, F, h, w) float16, whitened, in the training set's order
        self.requires_grad_(False)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) in [0, 1] -> local and context features before whitening; the context on its own coarser grid."""
        maps = self.encoder(images)
        local = [F.avg_pool2d(level, 3, 1, 1) for level in maps[: self.local_maps]]
        grid = local[0].shape[2], local[0].shape[3]
        brightness = F.adaptive_avg_pool2d(images.mean(1, keepdim=True), grid)
        whole = brightness.mean((2, 3), keepdim=True).expand_as(brightness)
        return _on_grid([*local, brightness, whole]), _on_grid(maps[self.local_maps :] or [brightness[:, :0]])

    def whiten(self, local: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Both groups of `raw`, decorrelated with variance 1 on the training normals."""
        return self.whiten_local(local), self.whiten_context(context) if self.context_channels else context

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, F, h, w), local channels first; no gradient: the encoder is frozen."""
        return _on_grid(self.whiten(*self.raw(images)))

    def clean(self, images: Tensor, index: Tensor) -> Tensor:
        """The representation of unchanged training images, from the cache if there is one."""
        if self._cache is None:
            return self(images)
        return _on_grid([group[index.cpu()].to(images.device, torch.float32) for group in self._cache])

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
            size += (local.numel() + context.numel()) * 4 / 1e6
            # in full precision until whitened: whitening magnifies the rounding of rare directions
            kept = None if kept is None or size > self.cache_mb else [*kept, (local, context)]
        self.whiten_local.finish()
        if self.context_channels:
            self.whiten_context.finish()
        if kept is None:
            self._cache = None
            return
        whitened = [tuple(group.half() for group in self.whiten(*raw)) for raw in kept]
        first, second = (torch.cat(groups) for groups in zip(*whitened, strict=True))
        self._cache = (first, second)

    def clean_batches(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """The whitened features of all training images, in order, from the cache or else computed from `batches`."""
        if self._cache is None:
            yield from (self(images) for images in batches)
        else:
            for local, context in zip(*(group.split(64) for group in self._cache), strict=True):
                yield _on_grid([local.float(), context.float()])


def _on_grid(maps: Sequence[Tensor]) -> Tensor:
    """Maps side by side on the grid of the first, the others resized bilinearly."""
    return torch.cat([resized(level, maps[0].shape[-2:]) for level in maps], dim=1)


Representation = Pixels | WhitenedFeatures
