"""`python scripts/calibrate.py`: the same as `anomap-calibrate`."""

from anomap.cli.entry import calibrate

if __name__ == "__main__":
    calibrate()
