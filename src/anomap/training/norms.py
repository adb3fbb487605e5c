"""BatchNorm's statistics for the weights that score."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from anomap.objectives.base import AdversarialObjective


@torch.no_grad()
def settle_norms(objective: AdversarialObjective, batches: Iterable[Tensor]) -> None:
    """Take the running statistics of the trained networks anew, over clean training images (B, C, H, W) in [0, 1].

    Those of a training lag behind weights that change quickly, and were never those of averaged weights: so they are computed
    for the final ones, as for SWA (1803.05407, section 3.2; `torch.optim.swa_utils.update_bn`). Only for methods that are
    trained on clean images alone. Batches of a single image are left out: they have no variance.
    """
    trained = (objective.generator, objective.discriminator)
    norms = [part for network in trained for part in network.modules() if isinstance(part, _BatchNorm)]
    several = (images for images in batches if len(images) > 1)
    if not norms or (first := next(several, None)) is None:
        return
    before = [(norm.momentum, copy.deepcopy(norm.state_dict())) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
        norm.train()
    objective.score(first)
    for images in several:
        objective.score(images)
    for norm, (momentum, state) in zip(norms, before, strict=True):
        if not norm.num_batches_tracked:  # the score does without it
            norm.load_state_dict(state)
        norm.momentum = momentum
        norm.eval()


@contextmanager
def settled_norms(objective: AdversarialObjective, batches: Iterable[Tensor]) -> Iterator[None]:
    """`settle_norms` for a while: what is watched is what would be scored, and the training goes on as if nothing had been."""
    before = copy.deepcopy(objective.state_dict())
    settle_norms(objective, batches)
    yield
    objective.load_state_dict(before)
