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
from anomap.config import check_seed, check_whole, flat, plain
from anomap.errors import UserError
from anomap.runs.folder import write_atomically
from anomap.runs.lock import alone
from anomap.tuning.space import Space, Value, override, read_space
from anomap.tuning.study import best, done, first_trial, open_study, preset, search, write_table
from anomap.tuning.trial import Trials

PRESET = Path("experiment") / "best.yaml"  # in the study's folder: --config-dir finds it there


def command(config: dict[str, Any], folder: Path) -> None:
    """Search, and say how to use what was found."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError("anomap-tune is a search of its own: leave -m out, and give space=... and trials=...")
    tune(config, folder, HydraConfig.get().overrides.task)


def tune(config: dict[str, Any], folder: Path, overrides: Sequence[str]) -> None:
    """Search until `trials` trials have ended; write `study.db`, and after each trial `trials.csv` and the preset.

    `config` is `conf/tune.yaml`, resolved. Hydra must be initialised: trials are composed as anomap-train's command line
    would be, of those of `overrides` that it has. UserError for wrong input, or a study begun with other settings.
    """
    check_seed(config["seed"])
    check_whole("trials", config["trials"], 1)
    check_whole("every", config["every"], 1)
    if config["startup_trials"] is not None:
        check_whole("startup_trials", config["startup_trials"], 0)
    base, space = of_train(overrides), read_space(config["space"])
    configured = compose("train", base)
    check_space(space, configured)
    values = plain(configured)
    settings = flat({"train": values, **{key: config[key] for key in ("space", "held_out", "every")}})
    with alone(folder, f"{folder}: another anomap-tune is at work on this study; wait, or give study=NAME"):
        study = open_study(folder, settings, config["seed"], config["startup_trials"])
        first_trial(study, space, flat(values))
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
    """Raise UserError, with the nearest key, for one that anomap-train has not."""
    groups, known = groups_of("train"), container(configured)
    for key in space:
        if key not in groups and key not in flat(known):
            raise UserError(f"space.{key}: anomap-train has no such key; {suggestion(key, known, groups)}")


def write_results(study: Any, space: Space, base: Sequence[str], folder: Path) -> None:
    """The table of trials, and the preset of the best."""
    write_table(study, space, folder / "trials.csv")
    if (trial := best(study)) is None:
        return
    chosen = compose("train", [*base, *_lines(trial.params)], return_hydra_config=True)
    choices = chosen.hydra.runtime.choices
    options = {group: choices[group] for group in groups_of("train") if group not in (*PRESETS, "hydra")}
    reference = compose("train", [f"{group}={option}" for group, option in options.items()])
    config = {key: value for key, value in container(chosen).items() if key != "hydra"}
    title = f"{usage(folder)}   (trial {trial.number}: objective {trial.value:.4f} on held-out augmentation)"
    write_atomically(folder / PRESET, preset(config, container(reference), options, title))


def conclude(study: Any, folder: Path) -> None:
    """Print what was found; the last line is the command to use it."""
    if (trial := best(study)) is None:
        raise UserError(f"{folder}: no trial of {done(study)} came to a value; see its trials.csv, or change the space")
    found = f"objective {trial.value:.4f} (normal images against held-out augmentation)"
    print(f"best         trial {trial.number}, {found}")
    for line in _lines(trial.params):
        print(f"             {line}")
    print(f"trials       {folder / 'trials.csv'}\npreset       {folder / PRESET}\nuse          {usage(folder)}")


def usage(folder: Path) -> str:
    """The command that trains with the preset."""
    return f"anomap-train --config-dir {shlex.quote(str(folder))} experiment={PRESET.stem}"


def _lines(values: Mapping[str, Value]) -> list[str]:
    return [override(key, value) for key, value in values.items()]
