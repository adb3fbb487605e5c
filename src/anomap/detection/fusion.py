"""How the parts of a score become one number. Another rule is another function of this signature."""

import torch
from torch import Tensor

from anomap.objectives.base import compressed


def fuse(parts: Tensor, weights: Tensor) -> Tensor:
    """Σ_k w_k c(s_k), c linear up to 3 standard deviations and logarithmic above; a part alone is the score itself.

    A plain sum lets one part with a heavy tail drown the others (docs/results.md compares rules).

    Args:
        parts: (B, K), standardised, higher = more abnormal.
        weights: (K,), ≥ 0. A part of weight 0 is left out, even where it is not finite.

    Returns:
        Anomaly scores (B,).
    """
    fused = parts if parts.shape[1] == 1 else compressed(parts)
    return torch.where(weights > 0, fused * weights, 0.0).sum(1)
