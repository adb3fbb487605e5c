"""How every command starts and ends: allocator, Hydra, one-line errors, exit status. Imports nothing heavy."""

import importlib
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from anomap.cli import multirun, resume, signals, typed
from anomap.cli.schema import check_keys, check_paths
from anomap.cli.user_errors import lost_process, user_message
from anomap.config import config_dir, plain
from anomap.memory import keep_memory
from anomap.training.stopping import Stop


def run(name: str) -> None:
    """Compose `conf/<name>.yaml` and call `anomap.commands.<name>.command` with it, imported only then: `--help` is quick.

    Exit status: 0 done; 2 with one line on standard error when the input or the configuration is wrong; 130 and 143 when
    stopped by Ctrl-C and SIGTERM, with a line that says how to go on; 1 with a traceback for an unexpected error, and
    when a job of a sweep failed.
    """
    # Hydra would print errors in its own way and exit with 1: let them through to `end`
    os.environ["HYDRA_FULL_ERROR"] = "1"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use over the network
    logging.raiseExceptions = False  # a log on a full disk would say so with a traceback for every line
    signal.signal(signal.SIGTERM, signals.obey)
    try:
        given = resume.arguments(sys.argv[1:]) if name == "train" else sys.argv[1:]
        given = typed.with_folder(given) if name == "check" else given
        sys.argv[1:] = typed.for_hydra(given)
        main = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=name)
        main(partial(job, name))()
    except BaseException as error:
        end(error, name, Path.cwd())
        raise


def job(name: str, config: DictConfig) -> None:
    """One composed run of the command `name`, alone or in a sweep, perhaps in a process of a launcher's."""
    keep_memory()  # here, because a sweep's jobs may run in processes of their own
    folder = Path(HydraConfig.get().runtime.output_dir)
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN

    def work() -> None:
        check_keys(config, name, HydraConfig.get().runtime.choices)
        given = plain(config)
        check_paths(given)
        with Stop():  # some imports swallow what a signal raises in them, and the command would go on
            module = importlib.import_module(f"anomap.commands.{name}")
        module.command(given, folder)

    try:
        with signals.further_process():
            if sweep:
                multirun.run_job(work, config, folder)
            else:
                work()
    except BaseException as error:  # here, because Hydra would print a line of its own above it
        end(error, name, folder, f"go on with: {resume.advice(folder, sweep)}" if name == "train" else "")
        raise


def end(error: BaseException, name: str, folder: Path, advice: str = "") -> None:
    """Leave with one line and the exit status that fits; return for an error that keeps its traceback.

    `folder` is named where a disk is full; `advice` says how to go on after a signal.
    """
    if (signalled := signals.behind(error)) is not None:
        signals.leave(signalled, advice)
    if isinstance(error, Exception):
        if (said := user_message(error, name, folder)) is not None:
            signals.fail(said)
        if (said := lost_process(error)) is not None:
            print(f"error: {said}", file=sys.stderr)
            sys.exit(signals.FAILED)
