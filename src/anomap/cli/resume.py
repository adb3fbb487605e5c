"""`anomap-train resume=RUN_DIR`: goes on in the run's folder with its own configuration. Imports nothing heavy."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from anomap.config import plain, quoted, unquoted
from anomap.errors import UserError
from anomap.runs.folder import RunFolder
from anomap.training.stopping import MAY_CHANGE, changing

_KEY = "resume="


def arguments(given: Sequence[str]) -> list[str]:
    """Command-line arguments for Hydra: with `resume=RUN_DIR` it works in that folder and leaves `.hydra` as it is.

    UserError if there is no such run, or an override would make it another run.
    """
    chosen = [argument for argument in given if argument.startswith(_KEY)]
    if not chosen or chosen[-1] in (_KEY, f"{_KEY}null"):
        return list(given)
    text = unquoted(chosen[-1].removeprefix(_KEY))
    run = RunFolder(Path(os.path.expanduser(text)).absolute())
    for argument in given:
        key = argument.lstrip("+~").partition("=")[0]
        if argument in ("-m", "--multirun"):
            raise UserError(f"resume={text} resumes one run; a sweep goes on when it is started again in its folder")
        if argument not in chosen and not key.startswith(("-", "hydra.")) and changing(key) is None:
            raise UserError(
                f"resume={text} goes on with the run's own configuration: {argument} cannot change it; "
                f"only {', '.join(MAY_CHANGE)} can"
            )
    if not any(path.is_file() for path in (run.config, run.last_checkpoint, run.stage1.last_checkpoint, run.metrics)):
        if not run.path.is_dir():
            why = "no such folder; give the folder of a run (its .hydra and checkpoints lie there)"
        elif (run.path / "multirun.yaml").is_file():
            why = f"the folder of a sweep; start it again with hydra.sweep.dir={text}, or resume one of the runs in it"
        else:
            why = "no run of anomap-train in this folder (it has no checkpoint and no .hydra/config.yaml)"
        raise UserError(f"resume={text}: {why}")
    if "${" in str(run.path):  # Hydra resolves its output folder twice
        raise UserError(f"resume={text}: Hydra cannot work in a folder with ${{ in its path; rename it")
    place = quoted(str(run.path))
    # first, so that what Lightning appends for its child processes overrides them
    ours = [f"hydra.run.dir={place}", "hydra.output_subdir=null"]
    return [*ours, *(f"{_KEY}{place}" if argument in chosen else argument for argument in given)]


def configuration(config: Mapping[str, Any], overridden: Sequence[str]) -> tuple[dict[str, Any], Path]:
    """The stored configuration of the run that `config["resume"]` names, and its folder; UserError if it cannot be read.

    Overridden keys that may change are taken from `config`, the plain configuration of this start.
    """
    from anomap.training.checkpoints import made_by

    run = RunFolder(config["resume"])
    # a checkpoint holds its configuration; before the first checkpoint there is only .hydra/
    found = made_by(run.last_checkpoint) or made_by(run.stage1.last_checkpoint)
    if found is None:
        try:
            found = plain(OmegaConf.load(run.config))  # pyright: ignore[reportArgumentType]
        except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
            raise UserError(f"{run.config}: the run's configuration cannot be read; start it anew") from error
    if found.get("command") != config["command"]:
        raise UserError(f"{run.path}: a run of anomap-{found.get('command')}; anomap-train resumes its own runs only")
    found = {**found, "resume": None}
    for line in overridden:
        key = changing(line.lstrip("+").partition("=")[0])
        if key is not None:
            group, _, name = key.partition(".")
            found[group] = {**found[group], name: config[group][name]} if name else config[group]
    return found, run.path


def advice(folder: Path, sweep: bool) -> str:
    """How to go on with a training that was stopped."""
    if sweep:
        return f"start the same sweep again with hydra.sweep.dir={shlex.quote(str(folder.parent))}"
    return f"anomap-train resume={shlex.quote(str(folder))}"
