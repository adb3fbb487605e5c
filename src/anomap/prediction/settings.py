"""What anomap-predict is asked for, checked at the door. Imports nothing heavy."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from anomap.config import check_choice, check_switches, check_whole
from anomap.errors import UserError
from anomap.runs.checkpoint_file import checkpoint_file


@dataclass(frozen=True)
class RaySettings:
    """The group `ray` of `conf/predict.yaml`. Raises UserError for a value that its key cannot have."""

    address: str | None
    workers: int | None
    cpus_per_worker: int
    gpus_per_worker: float
    shard_size: int

    def __post_init__(self) -> None:
        if self.workers is not None:
            check_whole("ray.workers", self.workers, 1)
        check_whole("ray.cpus_per_worker", self.cpus_per_worker, 1)
        check_whole("ray.shard_size", self.shard_size, 1)
        gpus = self.gpus_per_worker
        if type(gpus) not in (int, float) or gpus < 0:
            raise UserError(f"ray.gpus_per_worker={gpus}: give a number, such as 1, or 0.5 for two workers on a GPU")


@dataclass(frozen=True)
class Settings:
    """The keys of `conf/predict.yaml`."""

    checkpoint: Path  # a file that exists
    input: str
    recursive: bool
    overlays: str
    view: bool
    batch_size: int
    device: str
    engine: str
    output: Path | None  # None: the folder of this run
    threshold: float | None  # None: the checkpoint's own
    ray: RaySettings

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Settings":
        """Check a plain configuration. Raises UserError for a value that its key cannot have, or no such checkpoint."""
        if config["input"] is None:
            raise UserError("input is not set: give input=FILE, input=DIR or 'input=DIR/*.png'")
        check_choice("overlays", config["overlays"], ("anomalies", "all", "none"))
        check_choice("engine", config["engine"], ("local", "ray"))
        check_switches(config, "recursive", "view")
        check_whole("batch_size", config["batch_size"], 1)
        checked: dict[str, Any] = {"checkpoint": checkpoint_file(config), "threshold": _threshold(config["threshold"])}
        checked["output"] = None if config["output"] is None else Path(os.path.expanduser(config["output"]))
        checked["ray"] = RaySettings(**config["ray"])
        return cls(**{field.name: config[field.name] for field in fields(cls)} | checked)


def _threshold(config: Mapping[str, Any]) -> float | None:
    strategy, value = config.get("strategy", "manual"), config.get("value")
    if strategy != "manual":
        raise UserError(f"threshold={strategy}: give threshold.value=NUMBER; anomap-evaluate chooses one from scores")
    if value is None:
        return None
    if type(value) not in (int, float) or not math.isfinite(value):
        raise UserError(f"threshold.value={value}: not a number; leave it out for the checkpoint's own")
    return float(value)
