"""Tests of the detection room; a package, so that they can share `tests.tiny`."""
