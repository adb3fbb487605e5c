"""`python scripts/evaluate.py`: the same as `anomap-evaluate`."""

from anomap.commands.entry import evaluate

if __name__ == "__main__":
    evaluate()
