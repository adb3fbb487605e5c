"""Tests of the training room; a package, so that they can share `tests.tiny`."""
