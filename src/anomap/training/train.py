"""Training a method: a stage 1 if it has one, closed-form statistics, then the adversarial training by Lightning."""

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import Logger

from anomap.data.anomaly_data import AnomalyData
from anomap.detection.checkpoint import load_model
from anomap.errors import UserError
from anomap.memory import give_back_memory
from anomap.objectives.base import AdversarialObjective, Objective
from anomap.objectives.representation import Representation
from anomap.runs.folder import RunFolder
from anomap.training import steps
from anomap.training.checkpoints import AtomicCheckpointIO, LastCheckpoint, goes_on
from anomap.training.clean import CleanBatches
from anomap.training.datamodule import AnomalyDataModule
from anomap.training.loggers import make_callbacks, make_loggers
from anomap.training.module import AdversarialTraining
from anomap.training.monitoring import Monitoring
from anomap.training.norms import settle_norms, single_values_told
from anomap.training.processes import SharedStatistics, check_processes, trainer_arguments
from anomap.training.progress import Progress, Stopwatch
from anomap.training.said import said
from anomap.training.stopping import Stop

QUANTILE = 0.95  # of the threshold of the decisions shown while a model trains, unless `threshold` has one

log = logging.getLogger(__name__)

# Lightning's own chatter: devices found, tips, and warnings about what is meant to be so
for _name in ("pytorch_lightning", "lightning_fabric"):
    logging.getLogger(_name).setLevel(logging.WARNING)
for _text in (
    "Found .* module.s. in eval mode",  # frozen parts and averaged copies
    ".*does not have many workers",  # batches are indexed, not made
    "`broadcast_buffers` is deprecated",  # by newer versions of torch, for what older lack
    ".*LeafSpec.* is deprecated",
    "MLFlow only allows",  # so it leaves the brackets out of names
):
    warnings.filterwarnings("ignore", _text)


@dataclass(frozen=True)
class Stage:
    """A finished adversarial training."""

    objective: AdversarialObjective  # with the averaged weights, which score
    steps: int
    epochs: int  # passes over the training images, the last perhaps incomplete
    seconds: float  # of training steps, without monitoring
    images: int  # training images seen; an image and its augmented copy count once
    loggers: Sequence[Logger]


def train_method(
    objective: Objective,
    data: AnomalyData,
    config: Mapping[str, Any],
    run: RunFolder,
    callbacks: Sequence[pl.Callback] = (),
) -> tuple[Objective, list[Stage]]:
    """Train an untrained method by the whole configuration; `callbacks` are further ones, of the last stage's training.

    A resumed run computes the closed-form statistics again; only the training goes on. Raises what `train_stage` and
    `load_stage1` do.

    Returns:
        The method with the weights that score, on the device that trained it, and the stages trained, in order.
    """
    device = device_of(config["trainer"])
    objective.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    stages: list[Stage] = []
    if "stage1" in config["model"]:
        stage1, model = objective.stage1, config["model"]["stage1"]
        assert isinstance(stage1, AdversarialObjective)
        if config["model"]["stage1_checkpoint"] is not None:
            load_stage1(stage1, config["model"]["stage1_checkpoint"])
        else:
            log.info("stage 1: %s", model["name"])
            stage1.requires_grad_(True)
            learn_statistics(stage1, data, device)
            stages.append(train_stage(stage1, data, model, config, run.stage1, logs=run.tensorboard / "stage1"))
            stage1.load_state_dict(stages[0].objective.state_dict())
            stage1.to(device)  # Lightning leaves it on the CPU
        stage1.requires_grad_(False).eval()
        log.info("stage 2: %s", config["model"]["name"])
    learn_statistics(objective, data, device)
    if isinstance(objective, AdversarialObjective):
        # both stages in one folder, where TensorBoard shows them side by side
        logs = run.tensorboard / "stage2" if "stage1" in config["model"] else run.tensorboard
        stages.append(train_stage(objective, data, config["model"], config, run, callbacks, logs))
        objective = stages[-1].objective.to(device)
        if not objective.uses_augmentation:
            settle_norms(objective, CleanBatches(data, device))
    return objective, stages


def device_of(trainer: Mapping[str, Any]) -> torch.device:
    """The device on which Lightning will train in this process: everything else of a run is computed there too."""
    chosen = {key: trainer[key] for key in ("accelerator", "devices", "strategy") if key in trainer}
    return _trainer(chosen, logger=False, enable_checkpointing=False).strategy.root_device


def load_stage1(stage1: Objective, path: str) -> None:
    """Take a stage 1 that was trained before; UserError if it is no attention network of this architecture."""
    detector, found = load_model(path)
    try:
        stage1.load_state_dict(detector.objective.state_dict())
    except RuntimeError:
        raise UserError(
            f"model.stage1_checkpoint={path}: holds {found['model']['name']} at {found['data']['image_size']} px, which is "
            f"not the stage 1 configured in model.stage1; give the same options as in its training"
        ) from None


def learn_statistics(objective: Objective, data: AnomalyData, device: torch.device) -> None:
    """The closed-form part of a method's training, from clean images."""
    if type(objective).learn_statistics is not Objective.learn_statistics:
        with said(f"statistics of {len(data.clean)} training {'images' if data.tiling is None else 'tiles'}"):
            objective.learn_statistics(CleanBatches(data, device))
        if data.tiling is not None:  # every epoch draws others
            for part in objective.modules():
                if isinstance(part, Representation):
                    part.forget()
        give_back_memory()  # the statistics' own, which the training need not lie beside
    objective.to(device)  # what a method fitted may lie on the CPU


def train_stage(
    objective: AdversarialObjective,
    data: AnomalyData,
    model: Mapping[str, Any],
    config: Mapping[str, Any],
    run: RunFolder,
    callbacks: Sequence[pl.Callback] = (),
    logs: Path | None = None,
) -> Stage:
    """Train two networks for a fixed number of steps, going on from the run's checkpoint if this very run wrote it.

    The method has its closed-form statistics. `model` is the `model` group of this stage (`optimizer`, `ema_decay`,
    `steps`); `config`, that of the whole run, goes into the checkpoint; `logs` is the folder of TensorBoard's files, if
    not the run's `tensorboard/`. The caller's random state stays as it is.

    Raises:
        Stopped: a signal came; the checkpoint is written.
        UserError: the trainer's options are impossible, the training diverged, or the disk is full.
    """
    module = AdversarialTraining(
        objective, ema_decay=model["ema_decay"], seed=torch.initial_seed(), **model["optimizer"]
    )
    module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    stop, stopwatch, pace = Stop(), Stopwatch(), steps.Pace(config["trainer"], model.get("steps"))
    loggers = make_loggers(config, run, logs)
    # thresholds that are no quantile of calibration normals cannot be had in every epoch
    monitoring = Monitoring(module.ema.objective, data, config.get("threshold", {}).get("quantile", QUANTILE))
    used = [*make_callbacks(config, run), *callbacks, pace, SharedStatistics(), stopwatch, monitoring, Progress()]
    used += [LastCheckpoint(run.last_checkpoint, config, stop), *([LearningRateMonitor("epoch")] if loggers else [])]
    trainer = _trainer(
        {**config["trainer"], **pace.limits},
        default_root_dir=run.path,
        logger=loggers,
        callbacks=used,
        plugins=[AtomicCheckpointIO()],
        num_sanity_val_steps=0,  # two batches of one class say nothing
        use_distributed_sampler=False,  # the data's own samplers know the ranks
        log_every_n_steps=1,
    )
    if trainer.world_size > 1:
        check_processes(trainer, len(data.train) if data.tiling is None else len(data.windows(data.train)))
    if config["trainer"].get("profiler"):  # on the terminal its tables would drown everything else
        profiler: Any = trainer.profiler  # pyright: ignore[reportAttributeAccessIssue]
        profiler.dirpath, profiler.filename = run.path / "profile", config["trainer"]["profiler"]
        log.info("profile: %s", profiler.dirpath)
    start = run.last_checkpoint if goes_on(run.last_checkpoint, config) else None
    with stop, single_values_told(), torch.random.fork_rng([]):
        trainer.fit(module, AnomalyDataModule(data), ckpt_path=start)
        if stop.check(trainer):  # it came when there was nothing left to do
            raise stop.stopped()
    done = steps.done(trainer)
    epochs = math.ceil(done / steps.batches(trainer))
    return Stage(module.ema.objective, done, epochs, stopwatch.seconds, stopwatch.images, trainer.loggers)


def _trainer(options: Mapping[str, Any], **fixed: Any) -> pl.Trainer:
    """Lightning's Trainer; UserError for an unknown accelerator, precision, number of devices."""
    try:
        return pl.Trainer(**trainer_arguments(options), **fixed, enable_progress_bar=False, enable_model_summary=False)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise UserError(f"trainer: {str(error).splitlines()[0]}") from error
