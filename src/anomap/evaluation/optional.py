"""Work that may fail without losing what is done already."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def optional(what: str) -> Iterator[None]:
    """Let the work inside fail (no memory left, a full disk, an error) with one line that says `what` is left out."""
    try:
        yield
    except Exception as error:
        said = (str(error).splitlines() or [""])[0]
        log.warning("%s left out: %s%s", what, type(error).__name__, said and f": {said}")
