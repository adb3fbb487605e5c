"""Learning-rate schedules, per epoch."""

import math
from collections.abc import Callable

from anomap.errors import UserError


def learning_rate_factor(schedule: str, epochs: int) -> Callable[[int], float]:
    """Factor of the learning rate in each epoch.

    Args:
        schedule: `constant` (as GANomaly) or `cosine`: 1/2 (1 + cos(π e / E)) (1608.03983, eq. 5 without restarts).
        epochs: E, the length of the run.

    Raises:
        UserError: an unknown schedule.
    """
    if schedule == "constant":
        return lambda epoch: 1.0
    if schedule == "cosine":
        return lambda epoch: 0.5 * (1 + math.cos(math.pi * min(epoch, epochs) / epochs))
    raise UserError(f"model.optimizer.schedule={schedule}: not known; use constant or cosine")
