"""Tests of the commands room; a package, so that they can share `tests.tiny`."""
