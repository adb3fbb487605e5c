"""Lines about work that takes a while; without Lightning, since scoring says them too."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 10.0  # between two lines

log = logging.getLogger(__name__)


@contextmanager
def said(what: str) -> Iterator[None]:
    """Say what begins, and every ten seconds that it goes on: for work whose steps a library counts for itself."""
    done, began = threading.Event(), time.monotonic()

    def tell() -> None:
        while not done.wait(SECONDS):
            log.info("%s: %.0f s so far", what, time.monotonic() - began)

    log.info("%s", what)
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
