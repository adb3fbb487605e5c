"""Controls: what needs no training of a network, beside every published result, so that nobody is fooled."""

from abc import abstractmethod
from collections.abc import Callable, Iterable

import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from anomap.config import check_whole
from anomap.objectives.base import FittedState, MethodOutput, Objective, per_pixel, resized
from anomap.objectives.density import sample_rows
from anomap.objectives.losses import per_image

SIDE = 64  # pixel controls look at images reduced to this many pixels: more only adds noise and memory
PCA_IMAGES = 4096  # far more than its components need, and 200 MB at most
BANK_SLICE = 512  # remembered images that all images are compared with at once


def reduced(images: Tensor) -> Tensor:
    """(B, C, H, W) -> at most SIDE pixels a side, by averaging areas."""
    height, width = images.shape[-2:]
    return images if max(height, width) <= SIDE else adaptive_avg_pool2d(images, (min(height, SIDE), min(width, SIDE)))


class Control(FittedState, Objective):
    """Base: the difference to what would be normal. Score mean (x - x̂)², map |x - x̂|."""

    part_names = ("distance",)
    reconstructs = False  # whether x̂ is worth showing

    @abstractmethod
    def difference(self, x: Tensor) -> Tensor:
        """Of reduced images (B, C, H, W) in [0, 1]."""

    def score(self, images: Tensor) -> MethodOutput:
        small, size = reduced(images), images.shape[-2:]
        difference = self.difference(small)
        return MethodOutput(
            {"distance": per_image(difference**2)},
            anomaly_map=resized(per_pixel(difference), size),
            reconstruction=resized(small - difference, size) if self.reconstructs else None,
        )


class Darkness(Objective):
    """How dark the image is: 1 - mean. It knows nothing of normality, and still tells some data sets apart."""

    part_names = ("distance",)

    def score(self, images: Tensor) -> MethodOutput:
        dark = 1 - images
        return MethodOutput({"distance": per_image(dark)}, dark.mean(1, keepdim=True))


class DistanceToMean(Control):
    """Difference to the mean training image."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(0))

    def learn_statistics(self, batches: Iterable[Tensor]) -> None:
        seen = 0
        for small in map(reduced, batches):  # a running mean: all images at once may not fit
            seen += len(small)
            mean = small.mean(0, keepdim=True)
            self.mean = mean if seen == len(small) else self.mean.lerp(mean, len(small) / seen)

    def difference(self, x: Tensor) -> Tensor:
        return x - self.mean


class PCAError(Control):
    """Reconstruction error of a principal component analysis, of which at most `components` are kept.

    Of more than `PCA_IMAGES` training images as many are drawn at random.
    """

    reconstructs = True

    def __init__(self, components: int = 32) -> None:
        super().__init__()
        check_whole("components", components, 1)
        self.components = components
        self.mean = nn.Buffer(torch.zeros(0))
        self.basis = nn.Buffer(torch.zeros(0))  # (K, C H W)

    def learn_statistics(self, batches: Iterable[Tensor]) -> None:
        vectors = (reduced(batch).flatten(1) for batch in batches)
        pixels = sample_rows(vectors, PCA_IMAGES, torch.Generator().manual_seed(0))
        components = min(self.components, *pixels.shape)
        pca = PCA(components, random_state=0, copy=False).fit(pixels.numpy())  # centred in place
        self.mean = torch.from_numpy(pca.mean_).to(self.mean)
        self.basis = torch.from_numpy(pca.components_).to(self.basis)

    def difference(self, x: Tensor) -> Tensor:
        centred = x.flatten(1) - self.mean
        return (centred - centred @ self.basis.T @ self.basis).view_as(x)


class NearestNeighbour(Control):
    """Difference to the nearest training image."""

    def __init__(self) -> None:
        super().__init__()
        self.bank = nn.Buffer(torch.zeros(0))

    def learn_statistics(self, batches: Iterable[Tensor]) -> None:
        """Remember the training images, as the 8-bit values they are stored in."""
        self.bank = torch.cat([(reduced(batch) * 255).round().to(torch.uint8) for batch in batches])

    def difference(self, x: Tensor) -> Tensor:
        """A slice of the bank at a time becomes floating point: as a whole it would take several times the memory of the images."""
        pixels, slices = x.flatten(1), self.bank.flatten(1).split(BANK_SLICE)
        # ||x - b||² without the ||x||² that all candidates share
        distances = [(rows**2).sum(1) - 2 * pixels @ rows.T for rows in (part.to(x.dtype) / 255 for part in slices)]
        return x - self.bank[torch.cat(distances, dim=1).argmin(1)].to(x.dtype) / 255


CHEAP: dict[str, Callable[[], Objective]] = {
    "control_darkness": Darkness,
    "control_mean": DistanceToMean,
    "control_nearest_neighbour": NearestNeighbour,
    "control_pca": PCAError,
}
