"""Layouts: where a data set keeps its images and how it labels them.

A layout is a small class whose constructor takes the options of its `conf/data/*.yaml` and whose `scan()`
returns a `Scan`. It raises `UserError` for whatever is missing or mislabelled, and reads no image.
"""

from typing import Protocol

from anomap.data.samples import Scan


class Layout(Protocol):
    """What the datamodule needs from a layout."""

    def scan(self) -> Scan:
        """Find and label the samples."""
        ...
