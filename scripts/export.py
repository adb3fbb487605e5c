"""`python scripts/export.py`: the same as `anomap-export`."""

from anomap.cli.entry import export

if __name__ == "__main__":
    export()
