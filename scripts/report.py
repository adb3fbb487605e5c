"""`python scripts/report.py`: the same as `anomap-report`."""

from anomap.commands.entry import report

if __name__ == "__main__":
    report()
