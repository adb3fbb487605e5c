"""Errors as one line for the user: their input, Hydra's messages, lost worker processes."""

import re
from pathlib import Path, PurePosixPath

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from anomap.cli import signals
from anomap.cli.schema import container, groups_of, nearest, suggestion
from anomap.cli.typed import advice
from anomap.errors import UserError

# hydra/launcher=… -> the extra that brings it
EXTRAS = {
    "joblib": "sweep",
    **dict.fromkeys(("ray", "ray_local", "ray_cluster"), "ray"),
    **dict.fromkeys(("submitit_local", "submitit_slurm", "slurm"), "slurm"),
}

# package.class of an exception or one of its bases: a process ended without a result
_LOST = {"joblib.TerminatedWorkerError", "ray.RayError", "submitit.UncompletedJobError"}
_TOLD = {"ray.RayTaskError"}  # it has a result: the job's own exception


def user_message(error: Exception, command: str, folder: Path) -> str | None:
    """One line for an error that the user of `command` can fix; None for any other. `folder`: for a full disk."""
    if (absent := missing_launcher(error)) is not None:
        return absent
    if isinstance(error, MissingConfigException) and error.options:
        return _no_such_option(error, command)
    if isinstance(error, ConfigCompositionException):
        return _wrong_override(error, command) or one_line(error)
    if isinstance(error, OverrideParseException) and (better := advice(error.override)) is not None:
        return f"{error.override}: this value needs quotes of its own to be read as text: {better}"
    if isinstance(error, UserError | HydraException | OmegaConfBaseException):
        return one_line(error)
    if isinstance(error, OSError) and (full := signals.full_disk(error, folder)) is not None:
        return str(full)
    if isinstance(error, ValueError) and "Config group override" in str(error):  # Hydra's, of threshold=3.5
        return f"{error}: a group takes the name of an option, its keys take values, such as threshold.value=3.5"
    return None


def one_line(error: Exception) -> str:
    """An error's message on one line: of Hydra's long ones, the first line and the cause."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, InterpolationResolutionError):
        return f"{str(error).splitlines()[0]}: ${{...}} stands for another key's value; where it is meant as text, write \\${{...}}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    cause = str(error.__cause__).splitlines()[0] if error.__cause__ and str(error.__cause__) else ""
    return f"{lines[0]}{f' ({cause})' if cause and cause not in lines[0] else ''}; --help shows the keys"


def _no_such_option(error: MissingConfigException, command: str) -> str:
    """`model=adgn`, where the group has no such option."""
    path, known = PurePosixPath(error.missing_cfg_file or ""), error.options or []
    close = nearest(path.name, known)
    hint = f"did you mean {path.parent}={close}? " if close else ""
    asked = re.match(r"In '([^']+)'", str(error))
    where = f"in {asked[1]}: " if asked and asked[1] not in (command, "hydra/config") else ""
    return f"{where}{path.parent}={path.name}: no such option; {hint}known: {', '.join(known)}"


def _wrong_override(error: ConfigCompositionException, command: str) -> str | None:
    """What is wrong with an override, and what may have been meant; None if Hydra's own message is good enough."""
    text = str(error)
    if text.startswith("Ambiguous value"):
        return f"{text.splitlines()[0]}; several values make a sweep: anomap-{command} -m ...; a list is written [a,b]"
    if found := re.match(r"Could not override '([^']+)'\. No match in the defaults list", text):
        groups = [group for group in groups_of(command) if group != "hydra"]
        return f"{found[1]}: anomap-{command} has no such group; known: {', '.join(groups)}"
    found, cause = re.match(r"Could not override '([^'@]+)'", text), error.__cause__
    if found is None or not isinstance(cause, OmegaConfBaseException) or cause.parent_node is None:
        return None
    searched = cause.parent_node._get_root()
    if not OmegaConf.is_dict(searched):
        return None
    return f"{found[1]}: no such key; {suggestion(found[1], container(searched), groups_of(command))}"


def missing_launcher(error: Exception) -> str | None:
    """What to install, or where to start, if a launcher cannot start here; None for any other error."""
    if "Could not detect" in str(error) and "srun" in str(error):  # submitit's
        return "no SLURM on this machine (srun is not found): start the sweep on a login node, or use hydra/launcher=submitit_local"
    found = re.search(r"Could not (?:find|load) 'hydra/launcher/(\w+)'", str(error))
    extra = EXTRAS.get(found[1]) if found else None
    return f'hydra/launcher={found[1]} is not installed: pip install "anomap[{extra}]"' if found and extra else None


def lost_process(error: Exception) -> str | None:
    """One line if another process died; None for any other error."""
    family = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    if not family & _LOST or family & _TOLD:
        return None
    return (
        f"a process was lost with its work ({type(error).__name__}; out of memory, out of time, or killed); what is done is "
        "kept: started again in the same folder (hydra.sweep.dir, output), the command does only the rest"
    )
