"""`python scripts/predict.py`: the same as `anomap-predict`."""

from anomap.cli.entry import predict

if __name__ == "__main__":
    predict()
