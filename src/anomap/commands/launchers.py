"""Hydra's launchers, which run the jobs of a sweep in other processes: what they need, and what becomes of a lost one."""

import re

# hydra/launcher=… -> the extra that brings it
EXTRAS = {
    "joblib": "sweep",
    **dict.fromkeys(("ray", "ray_local", "ray_cluster"), "ray"),
    **dict.fromkeys(("submitit_local", "submitit_slurm", "slurm"), "slurm"),
}

# package.class, at any place in an exception's family: a process ended without saying how its job went
_LOST = {"joblib.TerminatedWorkerError", "ray.RayError", "submitit.UncompletedJobError"}
_TOLD = {"ray.RayTaskError"}  # it did say: the job's own exception


def missing(error: Exception) -> str | None:
    """What to install, or where to start, for a launcher that cannot start here; None for any other error."""
    if "Could not detect" in str(error) and "srun" in str(error):  # submitit's
        return "no SLURM on this machine (srun is not found): start the sweep on a login node, or use hydra/launcher=submitit_local"
    found = re.search(r"Could not (?:find|load) 'hydra/launcher/(\w+)'", str(error))
    extra = EXTRAS.get(found[1]) if found else None
    return f'hydra/launcher={found[1]} is not installed: pip install "anomap[{extra}]"' if found and extra else None


def lost(error: Exception) -> str | None:
    """What to say if another process died with its work; None for any other error."""
    family = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    if not family & _LOST or family & _TOLD:
        return None
    return (
        f"a process was lost with its work ({type(error).__name__}; out of memory, out of time, or killed); what is done is "
        "kept: started again in the same folder (hydra.sweep.dir, output), the command does only the rest"
    )
