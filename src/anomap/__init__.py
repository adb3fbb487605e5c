"""anomap: visual anomaly detection learned from normal images only."""

__version__ = "0.1.0"
