"""anomap-tune: search hyper-parameters on normal images alone; the best become a preset for anomap-train."""

import shlex
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from anomap.cli.schema import PRESETS, container, groups_of, suggestion
from anomap.config import check_whole, flat, plain
from anomap.errors import UserError
from anomap.runs.folder import write_atomically
from anomap.runs.lock import alone
from anomap.tuning.preset import preset
from anomap.tuning.space import Space, Value, override, read_space
from anomap.tuning.study import best, done, first_trial, open_study, search, write_table
from anomap.tuning.trial import Trials

PRESET = Path("experiment") / "best.yaml"  # in the study's folder: --config-dir finds it there


def command(config: dict[str, Any], folder: Path) -> None:
    """Search, and say how to use what was found."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError("anomap-tune is a search of its own: leave -m out, and give space=... and trials=...")
    tune(config, folder, HydraConfig.get().overrides.task)


def tune(config: dict[str, Any], folder: Path, overrides: Sequence[str]) -> None:
    """Search until `trials` trials have come to an end.

    Writes `study.db`, and after each trial `trials.csv` and `experiment/best.yaml`. Hydra must be initialised: trials are
    composed as the command line of anomap-train would be.

    Args:
        config: the whole configuration (`conf/tune.yaml`, resolved).
        folder: of the study.
        overrides: of the command line; those of anomap-train's keys hold for every trial.

    Raises:
        UserError: the configuration, the data or the space is wrong, or the study was begun with other settings.
    """
    for key, least in (("trials", 1), ("every", 1), ("startup_trials", 0)):
        if not (key == "startup_trials" and config[key] is None):
            check_whole(key, config[key], least)
    base = of_train(overrides)
    space = read_space(config["space"])
    configured = compose("train", base)
    check_space(space, configured)
    kept = {key: config[key] for key in ("space", "held_out", "every")}
    settings = flat({**kept, "train": plain(configured)})
    with alone(folder, f"{folder}: another anomap-tune is at work on this study; wait, or give study=NAME"):
        study = open_study(folder, settings, config["seed"], config["startup_trials"])
        first_trial(study, space, flat(plain(configured)))
        for left in folder.glob(".trial-*"):  # of a killed process
            shutil.rmtree(left)
        trials = Trials(folder, config["held_out"], config["every"])

        def objective(values: Mapping[str, Value], report: Any) -> float:
            return trials.run(plain(compose("train", [*base, *_lines(values)])), report)

        after = partial(write_results, study, space, base, folder)
        search(study, space, objective, config["trials"], after)
        after()
        conclude(study, folder)


def of_train(overrides: Sequence[str]) -> list[str]:
    """Those of anomap-tune's overrides that anomap-train has, too."""
    known = {*map(str, compose("train")), *groups_of("train")} - {"command", "hydra"}
    return [line for line in overrides if line.lstrip("+~").partition("=")[0].partition(".")[0] in known]


def check_space(space: Space, configured: DictConfig) -> None:
    """Refuse keys that anomap-train has not.

    Raises:
        UserError: with the nearest key.
    """
    groups = groups_of("train")
    for key in space:
        if key not in groups and key not in flat(container(configured)):
            raise UserError(
                f"space.{key}: anomap-train has no such key; {suggestion(key, container(configured), groups)}"
            )


def write_results(study: Any, space: Space, base: Sequence[str], folder: Path) -> None:
    """The table of trials, and the preset of the best."""
    write_table(study, space, folder / "trials.csv")
    trial = best(study)
    if trial is None:
        return
    chosen = compose("train", [*base, *_lines(trial.params)], return_hydra_config=True)
    known = [group for group in groups_of("train") if group not in (*PRESETS, "hydra")]
    options = {group: chosen.hydra.runtime.choices[group] for group in known}
    reference = compose("train", [f"{group}={option}" for group, option in options.items()])
    with_hydra = container(chosen)
    with_hydra.pop("hydra")
    title = f"{usage(folder)}   (trial {trial.number}: objective {trial.value:.4f} on held-out augmentation)"
    write_atomically(folder / PRESET, preset(with_hydra, container(reference), options, title))


def conclude(study: Any, folder: Path) -> None:
    """Print what was found; the last line is the command to use it."""
    trial = best(study)
    if trial is None:
        raise UserError(f"{folder}: no trial of {done(study)} came to a value; see its trials.csv, or change the space")
    print(
        f"best         trial {trial.number}, objective {trial.value:.4f} (normal images against held-out augmentation)"
    )
    for key, value in trial.params.items():
        print(f"             {override(key, value)}")
    print(f"trials       {folder / 'trials.csv'}\npreset       {folder / PRESET}\nuse          {usage(folder)}")


def usage(folder: Path) -> str:
    """The command that trains with the preset."""
    return f"anomap-train --config-dir {shlex.quote(str(folder))} experiment={PRESET.stem}"


def _lines(values: Mapping[str, Value]) -> list[str]:
    return [override(key, value) for key, value in values.items()]
