"""Pixels of a batch read from elsewhere, another place for every sample."""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


def take_pixels(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Images (K, C, h, w) -> (K, C, H, W): which rows and columns each pixel is taken from, int64, broadcastable to (K, H, W)."""
    source = (rows * images.shape[3] + columns).flatten(1)[:, None]
    flat = images.flatten(2).gather(2, source.expand(*images.shape[:2], -1))
    return flat.view(*images.shape[:2], *torch.broadcast_shapes(rows.shape[1:], columns.shape[1:]))


def roll(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Each image (K, C, H, W) moved by its own whole pixels (int64 (K,)), around the borders."""
    height, width = images.shape[2:]
    rows = (torch.arange(height, device=images.device) - down[:, None]) % height
    columns = (torch.arange(width, device=images.device) - right[:, None]) % width
    return take_pixels(images, rows[:, :, None], columns[:, None, :])


def turn(images: Tensor, angle: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Each image (K, C, H, W) turned by its `angle` (radians) about its pixel (`x`, `y`), all (K,); mirrored beyond the border."""
    height, width = images.shape[2:]
    cos, sin, x, y = (part[:, None, None] for part in (torch.cos(angle), torch.sin(angle), x, y))
    across = torch.arange(width, device=images.device) - x  # (K, 1, W)
    down = torch.arange(height, device=images.device)[:, None] - y  # (K, H, 1)
    source_x = cos * across - sin * down + x
    source_y = sin * across + cos * down + y
    # grid_sample wants -1 and 1 at the borders of the outermost pixels.
    grid = torch.stack([(2 * source_x + 1) / width - 1, (2 * source_y + 1) / height - 1], dim=3)
    return grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of images (K, C, H, W), each with its own standard deviation in pixels (K,), exact also at the borders."""

    def weights(size: int) -> Tensor:
        position = torch.arange(size, device=images.device)
        rows = torch.exp(-0.5 * ((position[:, None] - position) / sigma[:, None, None]).square())
        return (rows / rows.sum(2, keepdim=True))[:, None]  # (K, 1, size, size)

    return weights(images.shape[2]) @ images @ weights(images.shape[3]).transpose(2, 3)
