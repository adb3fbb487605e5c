"""Speed and memory, measured in one run: `python scripts/benchmark.py quick=true` (keys: benchmark/benchmark.yaml)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmark is no part of the package

from benchmark.command import main

if __name__ == "__main__":
    main()
