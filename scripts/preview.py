"""`python scripts/preview.py`: the same as `anomap-preview`."""

from anomap.cli.entry import preview

if __name__ == "__main__":
    preview()
