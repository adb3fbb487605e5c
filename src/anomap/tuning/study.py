"""An Optuna study in a folder: stored in SQLite, resumed after a stop, poor trials stopped early; its table and preset."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from anomap.config import flat
from anomap.errors import UserError
from anomap.runs.scores import write_csv
from anomap.training.module import TrainingDiverged
from anomap.tuning.space import Space, Value, suggest

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

SETTINGS, PROBLEM, REPEATS = "settings", "problem", "repeats"  # Optuna's user attributes

Evaluate = Callable[[dict[str, Value], Callable[[float, int], None]], float]  # values, report -> value


def open_study(folder: Path, settings: Mapping[str, Any], seed: int, startup_trials: int | None) -> optuna.Study:
    """Create or continue the study in `folder / "study.db"`; trials that a killed process left running are queued again.

    `startup_trials` must finish before any is stopped early; None: none is. UserError if Optuna is not installed, or the
    study was begun with other `settings` (flat, JSON).
    """
    try:
        import optuna
    except ImportError:
        raise UserError('anomap-tune needs Optuna: pip install "anomap[tune]"') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    pruners, storage = optuna.pruners, f"sqlite:///{folder.resolve()}/study.db"
    pruner = pruners.NopPruner() if startup_trials is None else pruners.MedianPruner(startup_trials)
    study = optuna.create_study(
        storage=storage, study_name="anomap", direction="maximize", pruner=pruner, load_if_exists=True
    )
    # another seed at each start, or the sampler would repeat its first draws
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.get_trials(deepcopy=False)))
    now = json.loads(json.dumps(settings))
    begun = study.user_attrs.get(SETTINGS, now)
    for key in sorted(begun.keys() | now.keys()):
        then, given = begun.get(key), now.get(key)
        if then != given:
            raise UserError(f"{folder}: this study was begun with {key}={then}, not {given}; give that, or study=NAME")
    study.set_user_attr(SETTINGS, begun)
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params, user_attrs={REPEATS: trial.number})
        log.info("trial %d was stopped before its end; queued again", trial.number)
    return study


def done(study: optuna.Study) -> int:
    """How many trials ended by themselves: complete, stopped early, or diverged."""
    trials = study.get_trials(deepcopy=False)
    return sum(trial.state.name in ("COMPLETE", "PRUNED") or PROBLEM in trial.user_attrs for trial in trials)


def first_trial(study: optuna.Study, space: Space, values: Mapping[str, Any]) -> None:
    """Queue the unchanged configuration, if the space contains it, to compare the others with."""
    if not study.get_trials(deepcopy=False) and all(
        key in values and values[key] in entry for key, entry in space.items()
    ):
        study.enqueue_trial({key: values[key] for key in space})


def search(study: optuna.Study, space: Space, evaluate: Evaluate, trials: int, after: Callable[[], None]) -> None:
    """Run trials until `trials` have ended, counting those of earlier starts; call `after` after each.

    A diverging training is no error but a trial without a value; any other UserError ends the search.
    """
    import optuna

    state = optuna.trial.TrialState
    while done(study) < trials:
        trial = study.ask()

        def report(value: float, epoch: int, trial: optuna.Trial = trial) -> None:
            if value == value:  # not nan
                trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                value = evaluate(suggest(space, trial), report)
            if value != value:
                raise TrainingDiverged("a score is not a finite number")
        except optuna.TrialPruned:
            study.tell(trial, state=state.PRUNED)
            log.info("trial %d  stopped early", trial.number)
        except TrainingDiverged as error:
            trial.set_user_attr(PROBLEM, str(error))
            study.tell(trial, state=state.FAIL)
            log.info("trial %d  %s", trial.number, error)
        except Exception:  # Ctrl-C and signals are no Exception: their trial stays open, to be repeated
            study.tell(trial, state=state.FAIL)
            raise
        else:
            study.tell(trial, value)
            log.info("trial %d  objective %.4f", trial.number, value)
        after()


def best(study: optuna.Study) -> optuna.trial.FrozenTrial | None:
    """The complete trial with the highest value, if there is one."""
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    return max(complete, key=lambda trial: trial.value or 0.0, default=None)


def write_table(study: optuna.Study, space: Space, path: Path) -> None:
    """All trials as CSV: number, state, objective, epochs looked at, one column per key of the space, problem."""
    rows: list[list[Any]] = [["trial", "state", "objective", "epochs", *space, "problem"]]
    for trial in study.get_trials(deepcopy=False):
        state = trial.state.name
        value = trial.value if state == "COMPLETE" else None
        problem = trial.user_attrs.get(PROBLEM, "stopped before its end" if state == "FAIL" else None)
        rows.append([trial.number, state.lower(), value, trial.last_step, *map(trial.params.get, space), problem])
    write_csv(path, (["" if cell is None else str(cell) for cell in row] for row in rows))


def preset(config: Mapping[str, Any], reference: Mapping[str, Any], options: Mapping[str, str], title: str) -> str:
    """A configuration as the text of an `experiment/<name>.yaml`: `options` (group -> option), and what differs from theirs.

    `reference` is the configuration with these options and nothing else.
    """
    text = OmegaConf.create({"defaults": [{f"override /{group}": name} for group, name in sorted(options.items())]})
    known = flat(reference)
    for key, value in flat(config).items():
        if key not in known or known[key] != value or type(known[key]) is not type(value):
            OmegaConf.update(text, key, value)
    return f"# @package _global_\n# {title}\n{OmegaConf.to_yaml(text)}"
