"""`python scripts/report.py`: the same as `anomap-report`."""

from anomap.cli.entry import report

if __name__ == "__main__":
    report()
