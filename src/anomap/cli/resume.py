"""`anomap-train resume=RUN_DIR`: the same folder, the run's own configuration. Imports nothing heavy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anomap.errors import UserError
from anomap.runs.folder import RunFolder
from anomap.training.resumable import MAY_CHANGE, may_change

_KEY = "resume="


def arguments(given: Sequence[str]) -> list[str]:
    """Command-line arguments for Hydra: those of a resumed run work in its folder and leave its `.hydra` alone.

    Raises:
        UserError: no such run, or an override that would make it another one.
    """
    chosen = [argument for argument in given if argument.startswith(_KEY)]
    if not chosen or chosen[-1] in (_KEY, f"{_KEY}null"):
        return list(given)
    text = chosen[-1].removeprefix(_KEY).strip("'\"")
    folder = Path(text).expanduser().absolute()
    for argument in given:
        key = argument.lstrip("+~").partition("=")[0]
        if argument in ("-m", "--multirun"):
            raise UserError(f"resume={text} resumes one run; a sweep goes on when it is started again in its folder")
        if argument not in chosen and not key.startswith(("-", "hydra.")) and not may_change(key):
            raise UserError(
                f"resume={text} goes on with the run's own configuration: {argument} cannot change it; "
                f"only {', '.join(MAY_CHANGE)} can"
            )
    if not folder.is_dir():
        raise UserError(
            f"resume={text}: no such folder; give the folder of a run (its .hydra and checkpoints lie there)"
        )
    if not _is_run(RunFolder(folder)):
        if (folder / "multirun.yaml").is_file():
            raise UserError(
                f"resume={text}: the folder of a sweep; start the same sweep again with hydra.sweep.dir={text}, "
                "or resume one of the runs in it"
            )
        raise UserError(
            f"resume={text}: no run of anomap-train in this folder (it has no checkpoint and no .hydra/config.yaml)"
        )
    place = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    # in front, so that what Lightning adds for further processes comes last and counts
    ours = [f"hydra.run.dir='{place}'", "hydra.output_subdir=null"]
    return [*ours, *(f"{_KEY}'{place}'" if argument in chosen else argument for argument in given)]


def configuration(config: Mapping[str, Any], overridden: Sequence[str]) -> tuple[dict[str, Any], Path]:
    """The stored configuration of the run that `config["resume"]` names, and its folder.

    Args:
        config: of this start, plain.
        overridden: of the command line; of the keys that may change, those named here are taken from `config`.

    Raises:
        UserError: the stored configuration cannot be read.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from anomap.config import plain
    from anomap.training.checkpoints import made_by

    run = RunFolder(config["resume"])
    # a checkpoint knows what it was trained with; .hydra/ is there before the first one
    found = made_by(run.last_checkpoint) or made_by(run.stage1.last_checkpoint)
    if found is None:
        try:
            found = plain(OmegaConf.load(run.config))  # pyright: ignore[reportArgumentType]
        except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
            raise UserError(f"{run.config}: the run's configuration cannot be read; start it anew") from error
    if found.get("command") != config["command"]:
        raise UserError(f"{run.path}: a run of anomap-{found.get('command')}; anomap-train resumes its own runs only")
    found = {**found, "resume": None}
    keys = [line.lstrip("+").partition("=")[0] for line in overridden]
    if "trainer.accelerator" in keys:
        found["trainer"] = {**found["trainer"], "accelerator": config["trainer"]["accelerator"]}
    found |= {
        key: config[key] for key in ("logger", "controls", "figures") if any(k.split(".")[0] == key for k in keys)
    }
    return found, run.path


def advice(folder: Path, sweep: bool) -> str:
    """How to go on with a training that was stopped."""
    if sweep:
        return f"start the same sweep again with hydra.sweep.dir={shlex.quote(str(folder.parent))}"
    return f"anomap-train resume={shlex.quote(str(folder))}"


def _is_run(run: RunFolder) -> bool:
    return any(path.is_file() for path in (run.config, run.last_checkpoint, run.stage1.last_checkpoint, run.metrics))
