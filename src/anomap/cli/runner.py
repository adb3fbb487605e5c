"""How every command starts and ends: allocator, Hydra, one-line errors, exit status. Imports nothing heavy."""

import importlib
import logging
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from anomap.cli import multirun, resume, signals
from anomap.cli.schema import check_keys, check_paths
from anomap.cli.user_errors import lost_process, user_message
from anomap.config import config_dir, plain
from anomap.memory import keep_memory
from anomap.training.stopping import Stop

_SWEEPS = ("sweep=", "+sweep=", "hydra.mode=MULTIRUN")


def quoted(argument: str, many: bool = False) -> str:
    """A command-line override as Hydra's grammar wants it: values that hold `=`, as the folders of sweeps do, in quotes.

    Values with quotes or brackets are left to the user. In a sweep (`many`) commas separate values, unless they belong to
    the path of something that exists: a job's folder has commas in its name.
    """
    found = re.fullmatch(r"([A-Za-z_][\w./@-]*)=(.*=.*)", argument)
    if found is None or set("'\"[]{}()\\$") & set(found[2]):
        return argument
    values = _separate(found[2].split(",")) if many else [found[2]]
    return f"{found[1]}=" + ",".join(f"'{value}'" if "=" in value else value for value in values)


def _separate(pieces: Sequence[str]) -> Iterator[str]:
    """The values that were joined with commas; as many pieces together as make an existing path."""
    while pieces:
        ends = range(len(pieces), 1, -1)
        end = next((end for end in ends if Path(",".join(pieces[:end])).expanduser().exists()), 1)
        yield ",".join(pieces[:end])
        pieces = pieces[end:]


def is_sweep(arguments: Iterable[str]) -> bool:
    """Whether a command line runs many jobs: by -m, or by a prepared sweep."""
    return any(
        argument in ("-m", "--multirun")
        or (argument.startswith(_SWEEPS) and argument.partition("=")[2] not in ("", "null"))
        for argument in arguments
    )


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
        sys.argv[1:] = [quoted(argument, is_sweep(given)) for argument in given]
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
