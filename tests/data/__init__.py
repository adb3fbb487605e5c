"""Tests of the data room; a package, so that they can share `helpers`."""
