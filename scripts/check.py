"""`python scripts/check.py`: the same as `anomap-check`."""

from anomap.cli.entry import check

if __name__ == "__main__":
    check()
