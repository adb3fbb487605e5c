"""`python scripts/tune.py`: the same as `anomap-tune`."""

from anomap.cli.entry import tune

if __name__ == "__main__":
    tune()
