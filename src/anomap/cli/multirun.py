"""The jobs of a sweep: their folders' names, skipping finished ones, and reporting failed ones."""

import hashlib
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from anomap.cli import signals
from anomap.cli.user_errors import FAILED, fail, one_line
from anomap.errors import UserError
from anomap.runs.folder import RunFolder, write_atomically
from anomap.runs.jobs import ERROR, reason

log = logging.getLogger(__name__)

_LONGEST = 100  # characters of a folder's name; file systems take 255 bytes
_TAIL = 16  # of them for a long value
_UNSAFE = re.compile(r"[^A-Za-z0-9._=+@-]+")


def folder_name(overrides: Iterable[str]) -> str:
    """The name of a job's folder: its overrides if they make a valid name, else shortened, with `~` and a hash.

    The order of the overrides does not matter, so the same sweep finds its folders again.
    """
    # the last override of a key counts; the name of a prepared sweep adds nothing
    chosen = {line.lstrip("+").partition("=")[0]: line for line in overrides}
    chosen.pop("sweep", None)
    # keys without a dot (model=, seed=, other groups) come first, so that they survive the cut
    lines = [chosen[key] for key in sorted(chosen, key=lambda key: ("." in key, key))]
    safe = [_UNSAFE.sub("_", line) for line in lines] or ["defaults"]
    name = ",".join(safe)
    if safe == (lines or safe) and len(name) <= _LONGEST:
        return name
    if len(name) > _LONGEST:  # the end of a path says more than its beginning
        name = ",".join(re.sub(rf"=.*(?=.{{{_TAIL}}}$)", "=", line) for line in safe)
    digest = hashlib.sha256("\0".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:10]
    return f"{name[: _LONGEST - len(digest) - 1]}~{digest}"


# On import: a launcher's worker processes import this module and run nothing else of a command's start.
OmegaConf.register_new_resolver("anomap.sweep_name", folder_name, replace=True)


def run_job(work: Callable[[], Any], config: DictConfig, folder: Path) -> None:
    """Do one job of a sweep, unless it is done; a failure is recorded in its folder and does not stop the others."""
    wrong = several_processes(config)
    if wrong is not None and str(HydraConfig.get().launcher._target_).endswith("BasicLauncher"):
        fail(wrong)
    if RunFolder(folder).finished:
        log.info("%s: finished before, skipped (delete the folder to run it again)", folder.name)
        return
    error_file = folder / ERROR
    error_file.unlink(missing_ok=True)
    try:
        if wrong is not None:
            raise UserError(wrong)  # exiting would only end the launcher's process
        work()
    except Exception as error:
        if signals.behind(error) is not None:
            raise  # a signal: the sweep ends
        if isinstance(error, OSError):
            error = signals.full_disk(error, folder) or error
        expected = isinstance(error, UserError | OmegaConfBaseException)  # one line says it
        write_atomically(error_file, " ".join(one_line(error).split()) + "\n" if expected else traceback.format_exc())
        log.error("%s: failed: %s%s", folder.name, reason(error_file), "" if expected else f"; all of it: {error_file}")


def several_processes(config: DictConfig) -> str | None:
    """Why this job cannot be in a sweep: Lightning would start processes with the sweep's command line. None if it can."""
    for key, alone in (("strategy", ("auto", "single_device")), ("devices", ("1",)), ("num_nodes", ("1",))):
        value = OmegaConf.select(config, f"trainer.{key}")
        one_of_many = OmegaConf.is_list(value) and len(value) == 1  # [3] is one device: the fourth
        if value is not None and str(value) not in alone and not one_of_many:
            return f"trainer.{key}={value} in a sweep: each process would start the whole sweep again; use {alone[0]}, or no sweep"
    return None


class Conclusion(Callback):
    """Reports at the end of a sweep which jobs failed (`hydra.callbacks`)."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Exit with status 1 and a line for each failed job; if none failed, say how to compare them."""
        sweep = Path(config.hydra.sweep.dir)
        failed = failures(sweep)
        if not failed:
            print(f"sweep        {sweep}\ncompare      anomap-report {sweep}")
            return
        again = "started again there, the sweep repeats only what is not done"
        print(f"error: {len(failed)} failed in {sweep}; {again}", file=sys.stderr)
        for path in failed:
            print(f"  {path.parent.relative_to(sweep)}: {reason(path)}", file=sys.stderr)
        sys.exit(FAILED)


def failures(sweep: Path) -> list[Path]:
    """The `error.txt` files written since the sweep was last started; older ones belong to other jobs."""
    start = sweep / "multirun.yaml"  # Hydra writes it when a sweep starts, by the same clock
    began = start.stat().st_mtime_ns if start.is_file() else 0
    return sorted(path for path in sweep.rglob(ERROR) if path.stat().st_mtime_ns >= began)
