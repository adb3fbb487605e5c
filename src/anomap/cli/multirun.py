"""The jobs of a sweep: their folders' names, skipping finished ones, and reporting failed ones."""

import functools
import hashlib
import logging
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from anomap.cli import signals
from anomap.cli.user_errors import one_line
from anomap.errors import UserError
from anomap.runs.folder import RunFolder, write_atomically
from anomap.runs.jobs import ERROR, reason

log = logging.getLogger(__name__)

_LONGEST = 200  # characters of a folder's name; file systems take 255 bytes
_CUTS = (64, 32, 16, 8)  # to how many characters values are cut, each if the one before does not suffice
_RUN_FILES = ("", ".", "..", "checkpoints", "last.ckpt")  # ends of paths that name nothing
_UNSAFE = re.compile(r"[^A-Za-z0-9._=+@-]+")


def folder_name(overrides: Iterable[str], sweep: Path | None = None) -> str:
    """The name of a job's folder: its overrides if they make a valid name, else shortened, with `~` and a hash of them.

    What varied in the sweep that was started in the folder `sweep` stays whole; of other paths the last component stays,
    and other values are cut where the name would be too long. A folder there that ends in the same hash is the job's,
    whatever else it is called: it was made when other keys varied. The order of the overrides does not matter.
    """
    # the last override of a key counts; the name of a prepared sweep adds nothing
    chosen = {line.lstrip("+").partition("=")[0]: line for line in overrides}
    chosen.pop("sweep", None)
    keys = sorted(chosen, key=lambda key: ("." in key, key))  # groups and the seed first
    lines = [chosen[key] for key in keys]
    varied = _swept(sweep) if sweep is not None else frozenset()
    parts = [(key in varied, *_readable(chosen[key], key in varied)) for key in keys]
    name = ",".join(key + value for _, key, value in parts) if parts else "defaults"
    if name == (",".join(lines) or name) and len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256("\0".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:10]
    if sweep is not None and (earlier := next(sweep.glob(f"*~{digest}"), None)) is not None:
        return earlier.name
    room = _LONGEST - len(digest) - 1
    shorter = (",".join(key + (value if whole else _cut(value, most)) for whole, key, value in parts) for most in _CUTS)
    alone = ",".join(key + value for whole, key, value in parts if whole)  # the hash stands for the others
    fitting = next((text for text in (name, *shorter, alone) if text and len(text) <= room), alone or name)
    return f"{fitting[:room]}~{digest}"


def _readable(line: str, whole: bool) -> tuple[str, str]:
    """`key=` and the value of an override in letters that any file system takes; of a path the last component."""
    key, equals, value = line.partition("=")
    if not whole and "/" in value:
        named = [part for part in value.strip("'\"").split("/") if part not in _RUN_FILES]
        value = named[-1] if named else value  # of a checkpoint its run's folder
    safe = _UNSAFE.sub("_", value)
    return _UNSAFE.sub("_", key) + equals, safe if safe == value else safe.strip("_")


def _cut(value: str, most: int) -> str:
    """The end of a long value, which says more than its beginning, marked as such."""
    return value if len(value) <= most else f"~{value[1 - most :]}"


def _swept(sweep: Path) -> frozenset[str]:
    """The keys that the sweep started last in this folder varies, by what Hydra noted there; none if it did not."""
    start = sweep / "multirun.yaml"
    try:
        return _swept_by(start, start.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, yaml.YAMLError, HydraException):
        return frozenset()


@functools.lru_cache(maxsize=1)
def _swept_by(start: Path, _changed: int) -> frozenset[str]:
    noted = yaml.safe_load(start.read_text(encoding="utf-8"))["hydra"]
    lines = [f"{key}={values}" for key, values in (noted["sweeper"].get("params") or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*lines, *noted["overrides"]["task"]])
    return frozenset(one.get_key_element().lstrip("+") for one in parsed if one.is_sweep_override())


# On import: a launcher's worker processes import this module and run nothing else of a command's start.
OmegaConf.register_new_resolver("anomap.sweep_name", lambda lines, sweep: folder_name(lines, Path(sweep)), replace=True)


def run_job(work: Callable[[], Any], config: DictConfig, folder: Path) -> None:
    """Do one job of a sweep, unless it is done; a failure is recorded in its folder and does not stop the others."""
    wrong = several_processes(config)
    if wrong is not None and str(HydraConfig.get().launcher._target_).endswith("BasicLauncher"):
        signals.fail(wrong)
    if RunFolder(folder).finished and not outdated(config, RunFolder(folder)):
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


def outdated(config: DictConfig, run: RunFolder) -> bool:
    """Whether a finished job's results are older than the checkpoint that it looks at: it has been trained again since."""
    given = config.get("checkpoint")
    path = Path(str(given)).expanduser()
    if not given or not path.is_file() or path.stat().st_mtime_ns <= run.metrics.stat().st_mtime_ns:
        return False
    log.info("%s: finished before, but %s is newer: done again", run.path.name, given)
    return True


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
            print(f"sweep        {sweep}\ncompare      anomap-report {shlex.quote(str(sweep))}")
            return
        again = "started again there, the sweep repeats only what is not done"
        print(f"error: {len(failed)} failed in {sweep}; {again}", file=sys.stderr)
        for path in failed:
            print(f"  {path.parent.relative_to(sweep)}: {reason(path)}", file=sys.stderr)
        sys.exit(signals.FAILED)


def failures(sweep: Path) -> list[Path]:
    """The `error.txt` files written since the sweep was last started; older ones belong to other jobs."""
    start = sweep / "multirun.yaml"  # Hydra writes it when a sweep starts, by the same clock
    began = start.stat().st_mtime_ns if start.is_file() else 0
    return sorted(path for path in sweep.rglob(ERROR) if path.stat().st_mtime_ns >= began)
