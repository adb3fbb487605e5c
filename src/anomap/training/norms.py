"""BatchNorm's statistics for the weights that score."""

import copy
import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from anomap.errors import UserError
from anomap.objectives.base import AdversarialObjective


class _Scoring(nn.Module):
    """A method as a network whose forward pass is its score."""

    def __init__(self, objective: AdversarialObjective) -> None:
        super().__init__()
        self.objective = objective
        self.eval()

    def forward(self, images: Tensor) -> None:
        self.objective.score(images)


def settle_norms(objective: AdversarialObjective, batches: Iterable[Tensor]) -> None:
    """Take the running statistics anew, over clean training images (B, C, H, W) in [0, 1], as SWA does (1803.05407, section 3.2).

    Those of a training lag behind weights that change quickly, and were never those of averaged weights. Only for methods that
    are trained on clean images alone. Batches of a single image, which has no variance, are left out; norms that the score does
    without are reset.
    """
    several = (images for images in batches if len(images) > 1)
    if (first := next(several, None)) is not None:
        update_bn(itertools.chain([first], several), _Scoring(objective))


@contextmanager
def single_values_told() -> Iterator[None]:
    """A batch in which BatchNorm has one value per channel, of one image on a grid of one cell, is the user's to change."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            "batch normalisation cannot train on a batch of one image of this size: raise data.batch_size or data.image_size, "
            "or add training images"
        ) from error


@contextmanager
def settled_norms(objective: AdversarialObjective, batches: Iterable[Tensor]) -> Iterator[None]:
    """`settle_norms` for a while: what is watched is what would be scored, and the training goes on as if nothing had been."""
    before = copy.deepcopy(objective.state_dict())
    settle_norms(objective, batches)
    yield
    objective.load_state_dict(before)
