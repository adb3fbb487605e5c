"""`python scripts/export.py`: the same as `anomap-export`."""

from anomap.commands.entry import export

if __name__ == "__main__":
    export()
