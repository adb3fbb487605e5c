"""python -m benchmark.measured FILE COMMAND [overrides]: run a command, then write its peak memory in bytes to FILE.

The peak is asked for from inside: what the parent would be told of its child includes its own memory at the fork.
"""

import sys
from pathlib import Path

from anomap.memory import peak_rss


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
