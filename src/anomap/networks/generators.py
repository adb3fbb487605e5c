"""Generators: GANomaly's encoder-decoder-encoder and the U-Net from which every other method is composed.

Sources: GANomaly (arXiv 1805.06725) and its authors' networks.py; Skip-GANomaly (arXiv 1901.08954), whose U-Net is
that of pix2pix (arXiv 1611.07004). Networks take and return images in [-1, 1].

Arguments of all: `channels` of the images; `image_size`, one side or (H, W), multiples of `2 ** depth`; `width`, channels after
the first halving; `depth`, number of halvings.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomap.networks.blocks import CBAM, SelfAttention, dcgan_init
from anomap.networks.convolutions import Convolution, TransposedConvolution, double
from anomap.networks.layout import beside
from anomap.networks.map_heads import FineHead, cell_head

# none: a plain auto-encoder; plain: concatenation; cbam: each skip through CBAM first
Skips = Literal["none", "plain", "cbam"]
# decoder: beside the image's head. Without U-Net: cell judges each cell alone, and sees context and density;
# fine draws to twice the resolution, and sees density and detail
MapHead = Literal["none", "decoder", "cell", "fine"]
WIDTH_CAP = 8  # no layer is wider than 8 x the first, as in DCGAN and pix2pix
SELF_ATTENTION_MAX_SIDE = 32  # N x N/4 attention above 32 x 32 costs more than all convolutions together


def down(inputs: int, outputs: int, norm: bool = True) -> nn.Sequential:
    """Half the size: 4x4 convolution with stride 2, BatchNorm (which replaces the bias), LeakyReLU(0.2)."""
    layers: list[nn.Module] = [Convolution(inputs, outputs, 4, 2, 1, bias=not norm)]
    if norm:
        layers.append(nn.BatchNorm2d(outputs))
    return nn.Sequential(*layers, nn.LeakyReLU(0.2, inplace=True))


def up(inputs: int, outputs: int) -> nn.Sequential:
    """Twice the size: 4x4 transposed convolution with stride 2, BatchNorm, ReLU."""
    convolution = TransposedConvolution(inputs, outputs, 4, 2, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def widths(width: int, depth: int) -> list[int]:
    """Channels after each of `depth` halvings: width, 2 width, 4 width, 8 width, 8 width, ..."""
    return [width * min(2**level, WIDTH_CAP) for level in range(depth)]


def halved(image_size: int | Sequence[int], times: int) -> tuple[int, int]:
    """(H, W) after so many halvings; ValueError for anything but one or two integers, or if nothing would be left."""
    sides = (image_size, image_size) if isinstance(image_size, int) else image_size
    if not isinstance(sides, Sequence) or len(sides) != 2 or not all(isinstance(side, int) for side in sides):
        raise ValueError(f"image_size={image_size}: use one positive integer or [height,width], in pixels")
    if min(sides) < 2**times:
        raise ValueError(f"image_size={image_size}: too small to be halved {times} times, the least is {2**times}")
    return sides[0] >> times, sides[1] >> times


def encoder(channels: int, image_size: int | Sequence[int], latent: int, width: int, depth: int) -> nn.Sequential:
    """DCGAN encoder, (B, C, H, W) -> (B, latent, 1, 1): halvings, then one convolution over all that is left."""
    sizes = [channels, *widths(width, depth)]
    body = nn.Sequential(*(down(a, b, norm=i > 0) for i, (a, b) in enumerate(pairwise(sizes))))
    whole = Convolution(sizes[-1], latent, halved(image_size, depth), bias=False)
    return nn.Sequential(OrderedDict(body=body, latent=whole))


def decoder(channels: int, image_size: int | Sequence[int], latent: int, width: int, depth: int) -> nn.Sequential:
    """The mirror of `encoder`, (B, latent, 1, 1) -> (B, C, H, W) in [-1, 1] through tanh."""
    sizes = widths(width, depth)[::-1]
    body = nn.Sequential(
        TransposedConvolution(latent, sizes[0], halved(image_size, depth), bias=False),
        nn.BatchNorm2d(sizes[0]),
        nn.ReLU(inplace=True),
        *(up(a, b) for a, b in pairwise(sizes)),
        TransposedConvolution(sizes[-1], channels, 4, 2, 1),
        nn.Tanh(),
    )
    return nn.Sequential(OrderedDict(body=body))


class EncoderDecoderEncoder(nn.Module):
    """GANomaly's generator (1805.06725, fig. 2): z = E1(x), x̂ = D(z), ẑ = E2(x̂); z has `latent` channels."""

    def __init__(
        self, channels: int, image_size: int | Sequence[int], latent: int = 100, width: int = 64, depth: int = 4
    ) -> None:
        super().__init__()
        self.stride = 2**depth
        sizes = (channels, image_size, latent, width, depth)
        self.encoder1, self.decoder, self.encoder2 = encoder(*sizes), decoder(*sizes), encoder(*sizes)
        self.apply(dcgan_init)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, H, W) -> x̂ (B, C, H, W), z and ẑ (B, latent, 1, 1)."""
        z = self.encoder1(x)
        reconstruction = self.decoder(z)
        return reconstruction, z, self.encoder2(reconstruction)


@dataclass
class Generated:
    """What a U-Net generator makes of an image or feature map."""

    image: Tensor  # (B, C, H, W), in [-1, 1] if it is an image
    map_logits: Tensor | None = None  # (B, 1, H, W), or finer; of the attention map
    coarse_logits: Tensor | None = None  # (B, 1, H, W): the same, unless a head draws at two resolutions
    features: Sequence[Tensor] = ()  # of the encoder, (B, F, h, w) after each level, before any guidance


def both_heads(x: Tensor, image_head: nn.Module, map_head: nn.Module) -> tuple[Tensor, Tensor]:
    """What two heads make of x, if possible as one transposed convolution: with so few outputs, reading x is the cost."""
    if not isinstance(image_head, nn.ConvTranspose2d) or not isinstance(map_head, nn.ConvTranspose2d):
        return image_head(x), map_head(x)
    weight = torch.cat([image_head.weight, map_head.weight], dim=1)  # (inputs, outputs, 4, 4)
    made = double(x, weight, torch.cat([image_head.bias, map_head.bias]))  # pyright: ignore[reportArgumentType]
    return made[:, :-1], made[:, -1:]


class UNet(nn.Module):
    """U-Net generator with choosable skips, self-attention and heads.

    Its input is an image, or feature maps that have already seen their surroundings: the `channels` to reconstruct, then those
    of `context`, `detail` and `density`, which only some map heads see.
    """

    def __init__(
        self,
        channels: int,
        image_size: int | Sequence[int],
        width: int = 64,
        depth: int = 5,
        skips: Skips = "plain",
        self_attention: bool = False,  # SAGAN's block in the decoder, at its largest size of at most 32 x 32
        map_head: MapHead = "none",
        context: int = 0,  # channels of coarser maps
        detail: int = 0,  # channels of finer maps, folded onto the grid
        density: int = 0,  # 1 if the input says how rare a cell is
        sees_density: bool = True,  # whether the heads see that; off only for an ablation
        masked_input: bool = False,  # also multiply the input by the guiding map, and append the map to it
        input_stride: int = 1,  # 1 for images; for feature maps, the image's pixels to a cell
        stem: bool = False,  # one more level, at full resolution, before the first halving: every cell counts
        bounded: bool = True,  # end in tanh, for images in [-1, 1]
    ) -> None:
        super().__init__()
        for key, value, kinds in (("skips", skips, Skips), ("map_head", map_head, MapHead)):
            if value not in get_args(kinds):
                raise ValueError(f"{key} must be one of {', '.join(get_args(kinds))}, not {value!r}")
        self.draws_on_image = map_head == "fine" and input_stride == 1
        if self.draws_on_image and stem:
            raise ValueError("map_head=fine draws on images from features of half their size: it needs stem=false")
        self.skips: Skips = skips
        self.channels, self.bounded, self.masked_input = channels, bounded, masked_input
        self.stride = input_stride * 2**depth
        joins = 1 if skips == "none" else 2
        inputs, sizes = channels + int(masked_input), widths(width, depth)
        first = [nn.Sequential(nn.Conv2d(inputs, width, 3, 1, 1), nn.LeakyReLU(0.2, inplace=True))] if stem else []
        # no norm on the first halving, and none on the innermost, which may be one pixel: its batch variance is no statistic
        pairs = enumerate(pairwise([width if stem else inputs, *sizes]))
        self.downs = nn.ModuleList([*first, *(down(a, b, norm=0 < i < depth - 1) for i, (a, b) in pairs)])
        inner = [*sizes[::-1], *([width] if stem else [])]
        self.ups = nn.ModuleList(up(a * (1 if i == 0 else joins), b) for i, (a, b) in enumerate(pairwise(inner)))
        self.gates = nn.ModuleList(CBAM(size) if skips == "cbam" else nn.Identity() for size in inner[1:])
        side = max(halved(image_size, depth - 1)) // input_stride  # of the first decoder feature map
        small = [i for i in range(len(self.ups)) if side << i <= SELF_ATTENTION_MAX_SIDE]
        self.attention_level = small[-1] if self_attention and small else -1
        self.attention = SelfAttention(inner[self.attention_level + 1]) if self.attention_level >= 0 else nn.Identity()
        head, kernel = (nn.Conv2d, (3, 1, 1)) if stem else (TransposedConvolution, (4, 2, 1))
        self.image_head = head(width * joins, channels, *kernel)
        self.map_head = head(width * joins, 1, *kernel) if map_head == "decoder" else None
        self.apply(dcgan_init)
        self.behind = (context, detail, density)
        self.sees_density = sees_density and density > 0
        seen = channels + int(self.sees_density)
        self.cell_head = cell_head(seen + context) if map_head == "cell" else None
        self.fine_head = None
        if map_head == "fine":
            self.fine_head = (
                FineHead(width * joins, FineHead.FACTOR**2 * channels, width)
                if self.draws_on_image
                else FineHead(seen, detail)
            )

    def maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of the attention map alone: x (B, C, H, W), all channels -> fine and coarse (B, 1, H, W).

        They are the same, but for a `fine` head. The U-Net runs only for a head that draws on images. ValueError without a head.
        """
        local, context, detail, density = x.split([self.channels, *self.behind], dim=1)
        density = density if self.sees_density else density[:, :0]
        if self.fine_head is not None and not self.draws_on_image:
            return self.fine_head(beside([local, density]), detail)
        if self.cell_head is not None:
            logits = self.cell_head(beside([local, context, density]))
            return logits, logits
        generated = self(x)
        if generated.map_logits is None:
            raise ValueError("this generator has no head for a map: give it a map_head")
        return generated.map_logits, generated.coarse_logits

    def forward(self, x: Tensor, attention_map: Tensor | None = None) -> Generated:
        """Reconstruct x (B, C, H, W), all channels, if a map is given under its guidance.

        Every feature map that reaches the decoder is multiplied by the attention map (B, 1, H, W) in [0, 1], 1 = normal region,
        so that nothing from outside the normal region is carried over.
        """
        over_features = self.cell_head is not None or (self.fine_head is not None and not self.draws_on_image)
        fine, coarse = self.maps(x) if over_features else (None, None)
        # whole again in memory, or every convolution that sees the slice would copy it
        x = x[:, : self.channels].contiguous(memory_format=torch.channels_last)
        image = x
        if self.masked_input:
            given = torch.ones_like(x[:, :1]) if attention_map is None else attention_map
            x = beside([x * given, given])
        features = []
        for layer in self.downs:
            x = layer(x)
            features.append(x)
        encoded = tuple(features)
        if attention_map is not None:
            features = [f * F.adaptive_avg_pool2d(attention_map, f.shape[-2:]) for f in features]
        x = features.pop()
        for level, (layer, gate) in enumerate(zip(self.ups, self.gates, strict=True)):
            x = layer(x)
            if level == self.attention_level:
                x = self.attention(x)
            if self.skips != "none":
                x = beside([x, gate(features.pop())])
        if self.fine_head is not None and self.draws_on_image:
            fine, coarse = self.fine_head(x, F.pixel_unshuffle(image, FineHead.FACTOR))
        if self.map_head is None:
            made = self.image_head(x)
        else:
            made, fine = both_heads(x, self.image_head, self.map_head)
            coarse = fine
        return Generated(torch.tanh(made) if self.bounded else made, fine, coarse, encoded)
