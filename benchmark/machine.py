"""Where and with what a measurement was made."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import torch

from anomap import __version__

_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "numpy", "pillow", "onnxruntime", "anomalib", "kornia")


def describe() -> dict[str, str | int | float | None]:
    """Machine, threads, date, versions, commit; and how busy others kept the machine just before, if psutil is there."""
    try:
        import psutil
    except ImportError:
        memory, busy = None, None
    else:
        memory, busy = round(psutil.virtual_memory().total / 1e9, 1), psutil.cpu_percent(interval=1.0)
    return {
        "machine": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": memory,
        "busy_before_percent": busy,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.platform(),
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "git_commit": commit(),
        "version_anomap": __version__,
        "version_python": platform.python_version(),
        **{f"version_{name.replace('-', '_')}": _version(name) for name in _PACKAGES},
    }


def commit() -> str | None:
    """The commit of the checkout, with `+` if files were changed since; None outside of one."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + (
            "+" if git("status", "--porcelain", "--", str(here.parent)) else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
