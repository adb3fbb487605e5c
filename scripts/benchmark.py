"""`python scripts/benchmark.py`: the same as `anomap-benchmark`."""

from anomap.commands.entry import benchmark

if __name__ == "__main__":
    benchmark()
