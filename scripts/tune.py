"""`python scripts/tune.py`: the same as `anomap-tune`."""

from anomap.commands.entry import tune

if __name__ == "__main__":
    tune()
