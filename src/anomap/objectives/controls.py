"""Controls: what needs no training of a network, beside every published result, so that nobody is fooled.

Each is fitted once to clean training images with scikit-learn where it has the method, keeps what it learned in buffers,
and scores, exports and loads like every other method.
"""

from collections.abc import Callable, Iterable

import torch
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from anomap.objectives.base import FittedState, MethodOutput, Objective, per_pixel, resized
from anomap.objectives.losses import per_image

SIDE = 64  # pixel controls look at images reduced to this many pixels: more only adds noise and memory

BANK_SLICE = 512  # remembered images that all images are compared with at once


class Control(FittedState, Objective):
    """Base: one part, named `distance`."""

    part_names = ("distance",)


def reduced(images: Tensor) -> Tensor:
    """(B, C, H, W) -> at most SIDE pixels a side, by averaging areas."""
    height, width = images.shape[-2:]
    return images if max(height, width) <= SIDE else adaptive_avg_pool2d(images, (min(height, SIDE), min(width, SIDE)))


class Darkness(Control):
    """How dark the image is: 1 - mean. It knows nothing of normality, and still tells some data sets apart."""

    def score(self, images: Tensor) -> MethodOutput:
        """Score and map: 1 - intensity."""
        dark = 1 - images
        return MethodOutput({"distance": per_image(dark)}, dark.mean(1, keepdim=True))


class DistanceToMean(Control):
    """Mean squared distance to the mean training image."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(0))

    def learn_statistics(self, batches: Iterable[Tensor]) -> None:
        """Average the training images."""
        self.mean = torch.cat([reduced(batch) for batch in batches]).mean(0, keepdim=True)

    def score(self, images: Tensor) -> MethodOutput:
        """Score mean (x - μ)², map |x - μ|."""
        difference = reduced(images) - self.mean
        return MethodOutput({"distance": per_image(difference**2)}, resized(per_pixel(difference), images.shape[-2:]))


class PCAError(Control):
    """Reconstruction error of a principal component analysis.

    Args:
        components: at most this many are kept.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, components: int = 32) -> None:
        super().__init__()
        self.components = components
        self.register_buffer("mean", torch.zeros(0))
        self.register_buffer("basis", torch.zeros(0))

    def learn_statistics(self, batches: Iterable[Tensor]) -> None:
        """Fit scikit-learn's PCA to the training images."""
        pixels = torch.cat([reduced(batch).flatten(1) for batch in batches])
        components = min(self.components, *pixels.shape)
        pca = PCA(components, random_state=0).fit(pixels.cpu().numpy())
        self.mean = torch.from_numpy(pca.mean_).to(self.mean)
        self.basis = torch.from_numpy(pca.components_).to(self.basis)  # (K, C H W)

    def score(self, images: Tensor) -> MethodOutput:
        """Score mean (x - x̂)², map |x - x̂|."""
        small = reduced(images)
        centred = small.flatten(1) - self.mean
        residual = (centred - centred @ self.basis.T @ self.basis).view_as(small)
        size = images.shape[-2:]
        return MethodOutput(
            {"distance": per_image(residual**2)},
            resized(per_pixel(residual), size),
            reconstruction=resized(small - residual, size),
        )


class NearestNeighbour(Control):
    """Squared distance to the nearest training image, in pixels."""

    bank: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bank", torch.zeros(0))

    def learn_statistics(self, batches: Iterable[Tensor]) -> None:
        """Remember the training images, as the 8-bit values they are stored in."""
        self.bank = torch.cat([(reduced(batch) * 255).round().to(torch.uint8) for batch in batches])

    def score(self, images: Tensor) -> MethodOutput:
        """Score mean (x - x_nn)², map |x - x_nn|."""
        small = reduced(images)
        found = self.bank[self.nearest(small.flatten(1))].to(small.dtype) / 255
        difference = small - found
        return MethodOutput({"distance": per_image(difference**2)}, resized(per_pixel(difference), images.shape[-2:]))

    def nearest(self, pixels: Tensor) -> Tensor:
        """Index of the nearest remembered image: (B, D) in [0, 1] -> (B,).

        A slice of the bank at a time becomes floating point: as a whole it would take several times the memory of the images.
        """
        distances, indices = [], []
        for part in self.bank.flatten(1).split(BANK_SLICE):
            rows = part.to(pixels.dtype) / 255
            # ||x - b||² without the ||x||² that all candidates share
            distance, index = ((rows**2).sum(1) - 2 * pixels @ rows.T).min(1)
            distances.append(distance)
            indices.append(index + BANK_SLICE * len(indices))
        best = torch.stack(distances).argmin(0, keepdim=True)
        return torch.stack(indices).gather(0, best)[0]


CHEAP: dict[str, Callable[[], Control]] = {
    "control_darkness": Darkness,
    "control_mean": DistanceToMean,
    "control_nearest_neighbour": NearestNeighbour,
    "control_pca": PCAError,
}
