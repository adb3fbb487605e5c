"""The two stages: where a frozen stage 1 comes from, and the pass over clean images that closed-form statistics need."""

import logging
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from anomap.data.datamodule import AnomalyDataModule
from anomap.data.imageset import to_float
from anomap.data.sampler import SequentialBatches
from anomap.detection.checkpoint import load_model
from anomap.errors import UserError
from anomap.objectives.base import Objective
from anomap.runs.folder import RunFolder
from anomap.training.fit import Fit, fit

log = logging.getLogger(__name__)


class CleanBatches:
    """The training images (B, C, H, W) in [0, 1], all of them, in stored order (the training loader shuffles); iterable again.

    Raises:
        UserError: there are none.
    """

    def __init__(self, data: AnomalyDataModule) -> None:
        data.train_dataloader()  # says so if there are none
        self.images, self.batch_size = data.train, data.batch_size

    def __iter__(self) -> Iterator[Tensor]:
        for index in SequentialBatches(len(self.images), self.batch_size):
            yield to_float(self.images[index]["image"])


def prepare_stage1(objective: Objective, data: AnomalyDataModule, config: dict[str, Any], run: RunFolder) -> list[Fit]:
    """Fill `objective.stage1` with trained weights: from `model.stage1_checkpoint`, or by training it here.

    In a run that is resumed the closed-form statistics are made again, and only the training goes on.

    Args:
        objective: a two-stage method; its `stage1` has the architecture and no training yet.
        data: ready to serve.
        config: the whole configuration.
        run: of the whole; stage 1 has the folder `stage1/` in it.

    Returns:
        The fit of stage 1, or nothing if a checkpoint was taken.

    Raises:
        UserError: the checkpoint is no attention network of this architecture.
    """
    model, stage1 = config["model"], objective.stage1
    assert isinstance(stage1, Objective)
    path = model["stage1_checkpoint"]
    if path is not None:
        detector, found = load_model(path)
        try:
            stage1.load_state_dict(detector.objective.state_dict())
        except RuntimeError:
            raise UserError(
                f"model.stage1_checkpoint={path}: holds {found['model']['name']} at {found['data']['image_size']} px, which is "
                f"not the stage 1 configured in model.stage1; give the same options as in its training"
            ) from None
        return []
    stage1.requires_grad_(True)
    stage1.fit(CleanBatches(data))
    log.info("stage 1: %s", model["stage1"]["name"])
    trainer = {**config["trainer"], "max_epochs": model["stage1"]["epochs"]}
    first = fit(stage1, data, model["stage1"], trainer, config["logger"], run.stage1, config)  # pyright: ignore[reportArgumentType]
    stage1.load_state_dict(first.objective.state_dict())
    stage1.requires_grad_(False).eval()
    log.info("stage 2: %s", model["name"])
    return [first]
