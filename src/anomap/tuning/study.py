"""An Optuna study in a folder: stored in SQLite, resumed after a stop, poor trials stopped early, a table of all trials."""

from __future__ import annotations

import csv
import io
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomap.errors import UserError
from anomap.runs.folder import write_atomically
from anomap.training.module import TrainingDiverged
from anomap.tuning.space import Space, Value, suggest

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

SETTINGS, PROBLEM, REPEATS = "settings", "problem", "repeats"  # Optuna's user attributes

Evaluate = Callable[[dict[str, Value], Callable[[float, int], None]], float]  # values, report -> value


def open_study(folder: Path, settings: Mapping[str, Any], seed: int, startup_trials: int | None) -> optuna.Study:
    """Create or continue the study of a folder.

    Trials that a killed process left running are marked as failed and queued again with the same values.

    Args:
        folder: holds `study.db`.
        settings: flat, JSON; must be the same at every start.
        seed: of the sampler.
        startup_trials: trials that finish before any is stopped early; None: no trial is stopped early.

    Raises:
        UserError: Optuna is not installed, or the study was begun with other settings.
    """
    try:
        import optuna
    except ImportError:
        raise UserError('anomap-tune needs Optuna: pip install "anomap[tune]"') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    pruner = optuna.pruners.NopPruner()
    if startup_trials is not None:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=startup_trials)
    study = optuna.create_study(
        storage=f"sqlite:///{folder.resolve()}/study.db",
        study_name="anomap",
        direction="maximize",
        pruner=pruner,
        load_if_exists=True,
    )
    # another seed at each start, or the sampler would repeat its first draws
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.get_trials(deepcopy=False)))
    begun = study.user_attrs.get(SETTINGS)
    if begun is None:
        study.set_user_attr(SETTINGS, json.loads(json.dumps(settings)))
    else:
        _same_settings(begun, json.loads(json.dumps(settings)), folder)
    _repeat_killed(study)
    return study


def _same_settings(begun: Mapping[str, Any], settings: Mapping[str, Any], folder: Path) -> None:
    for key in sorted(begun.keys() | settings.keys()):
        was, now = begun.get(key), settings.get(key)
        if was != now:
            raise UserError(
                f"{folder}: this study was begun with {key}={was}, not {now}; give the same, or another name: study=NAME"
            )


def _repeat_killed(study: optuna.Study) -> None:
    import optuna

    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params, user_attrs={REPEATS: trial.number})
        log.info("trial %d was stopped before its end; queued again", trial.number)


def done(study: optuna.Study) -> int:
    """How many trials ended by themselves: complete, stopped early, or diverged."""
    states = ("COMPLETE", "PRUNED")
    return sum(t.state.name in states or PROBLEM in t.user_attrs for t in study.get_trials(deepcopy=False))


def first_trial(study: optuna.Study, space: Space, values: Mapping[str, Any]) -> None:
    """Queue the unchanged configuration, if the space contains it, to compare the others with."""
    if not study.get_trials(deepcopy=False) and all(values.get(key) in entry for key, entry in space.items()):
        study.enqueue_trial({key: values[key] for key in space})


def search(study: optuna.Study, space: Space, evaluate: Evaluate, trials: int, after: Callable[[], None]) -> None:
    """Run trials until `trials` have ended, counting those of earlier starts.

    Args:
        study: open.
        space: what may be drawn.
        evaluate: takes the values of a trial, and a function to report intermediate values with.
        trials: in all.
        after: called after each trial.

    Raises:
        UserError: the configuration is wrong. A diverging training is no error but a trial without a value.
    """
    import optuna

    failed = optuna.trial.TrialState.FAIL
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
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            log.info("trial %d  stopped early", trial.number)
        except TrainingDiverged as error:
            trial.set_user_attr(PROBLEM, str(error))
            study.tell(trial, state=failed)
            log.info("trial %d  %s", trial.number, error)
        except Exception:  # Ctrl-C and signals are no Exception: their trial stays open, to be repeated
            study.tell(trial, state=failed)
            raise
        else:
            if value == value:
                study.tell(trial, value)
            else:
                trial.set_user_attr(PROBLEM, "a score is not a finite number")
                study.tell(trial, state=failed)
            log.info("trial %d  objective %.4f", trial.number, value)
        after()


def best(study: optuna.Study) -> optuna.trial.FrozenTrial | None:
    """The complete trial with the highest value, if there is one."""
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    return max(complete, key=lambda trial: trial.value or 0.0, default=None)


def write_table(study: optuna.Study, space: Space, path: Path) -> None:
    """All trials as CSV: number, state, objective, epochs looked at, one column per key of the space, problem."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["trial", "state", "objective", "epochs", *space, "problem"])
    for trial in study.get_trials(deepcopy=False):
        value = trial.value if trial.state.name == "COMPLETE" else None
        problem = trial.user_attrs.get(PROBLEM, "")
        if trial.state.name == "FAIL" and not problem:
            problem = "stopped before its end"
        shown = [trial.params.get(key, "") for key in space]
        epochs = trial.last_step if trial.last_step is not None else ""
        number = "" if value is None else repr(value)
        writer.writerow([trial.number, trial.state.name.lower(), number, epochs, *shown, problem])
    write_atomically(path, text.getvalue())
