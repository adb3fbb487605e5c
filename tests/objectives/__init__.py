"""Tests of the objectives room; a package, so that they can share `tests.tiny`."""
