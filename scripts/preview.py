"""`python scripts/preview.py`: the same as `anomap-preview`."""

from anomap.commands.entry import preview

if __name__ == "__main__":
    preview()
