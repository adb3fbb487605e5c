"""How the parts of a score become one number. Another rule is another function of this signature."""

import torch
from torch import Tensor


def fuse(parts: Tensor, weights: Tensor) -> Tensor:
    """Σ_k w_k s_k.

    Args:
        parts: (B, K), standardised, higher = more abnormal.
        weights: (K,), ≥ 0. A part of weight 0 is left out, even where it is not finite.

    Returns:
        Anomaly scores (B,).
    """
    return torch.where(weights > 0, parts * weights, 0.0).sum(1)
