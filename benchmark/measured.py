"""python -m benchmark.measured FILE COMMAND [overrides]: run a command, then write its peak memory in bytes to FILE.

The peak is asked for from inside: what the parent would be told of its child includes its own memory at the fork.
"""

import resource
import sys
from pathlib import Path


def peak_rss() -> int:
    """Peak resident memory of this process since its program started, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):  # not Linux
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """Exit as the command does."""
    _, file, command, *overrides = sys.argv
    from anomap.cli import entry

    sys.argv = [f"anomap-{command}", *overrides]
    try:
        getattr(entry, command)()
    finally:
        Path(file).write_text(str(peak_rss()))


if __name__ == "__main__":
    main()
