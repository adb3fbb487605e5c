"""`python scripts/evaluate.py`: the same as `anomap-evaluate`."""

from anomap.cli.entry import evaluate

if __name__ == "__main__":
    evaluate()
