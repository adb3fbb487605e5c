"""What anomap-predict is asked for, checked at the door. Imports nothing heavy."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomap.config import check_choice, check_switches, check_whole
from anomap.errors import UserError
from anomap.runs.checkpoint_file import checkpoint_file

ENGINES = ("local", "ray")
OVERLAY_CHOICES = ("anomalies", "all", "none")


@dataclass(frozen=True)
class RaySettings:
    """The group `ray` of `conf/predict.yaml`."""

    address: str | None
    workers: int | None
    cpus_per_worker: int
    gpus_per_worker: float
    shard_size: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "RaySettings":
        """Check the values. Raises UserError."""
        for key in ("workers", "cpus_per_worker", "shard_size"):
            if not (key == "workers" and config[key] is None):
                check_whole(f"ray.{key}", config[key], 1)
        gpus = config["gpus_per_worker"]
        if isinstance(gpus, bool) or not isinstance(gpus, int | float) or gpus < 0:
            raise UserError(f"ray.gpus_per_worker={gpus}: give a number, such as 1, or 0.5 for two workers on a GPU")
        return cls(**config)


@dataclass(frozen=True)
class Settings:
    """The keys of `conf/predict.yaml`.

    Attributes:
        checkpoint: a file that exists.
        threshold: None for the checkpoint's own.
        output: None for the folder of this run.
    """

    checkpoint: Path
    input: str
    recursive: bool
    overlays: str
    view: bool
    batch_size: int
    device: str
    engine: str
    output: Path | None
    threshold: float | None
    ray: RaySettings

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Settings":
        """Check the values of a plain configuration.

        Raises:
            UserError: a value that its key cannot have, or no such checkpoint.
        """
        if config["input"] is None:
            raise UserError("input is not set: give input=FILE, input=DIR or input='\"DIR/*.png\"'")
        check_choice("overlays", config["overlays"], OVERLAY_CHOICES)
        check_choice("engine", config["engine"], ENGINES)
        check_switches(config, "recursive", "view")
        check_whole("batch_size", config["batch_size"], 1)
        output = config["output"]
        return cls(
            checkpoint_file(config),
            threshold=_threshold(config["threshold"]),
            output=None if output is None else Path(output).expanduser(),
            ray=RaySettings.of(config["ray"]),
            **{
                key: config[key] for key in ("input", "recursive", "overlays", "view", "batch_size", "device", "engine")
            },
        )


def _threshold(config: Mapping[str, Any]) -> float | None:
    strategy, value = config.get("strategy", "manual"), config.get("value")
    if strategy != "manual":
        raise UserError(f"threshold={strategy}: give threshold.value=NUMBER; anomap-evaluate chooses one from scores")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"threshold.value={value}: not a number; leave it out for the checkpoint's own")
    return float(value)
