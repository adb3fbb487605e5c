"""Tests of the networks room; a package, so that they can share `tests.tiny`."""
