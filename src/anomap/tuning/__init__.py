"""Hyper-parameter search on normal images alone."""
