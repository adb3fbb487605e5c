"""`python scripts/train.py`: the same as `anomap-train`."""

from anomap.cli.entry import train

if __name__ == "__main__":
    train()
