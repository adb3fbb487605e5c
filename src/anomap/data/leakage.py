"""Byte-identical files across the splits: a test image that was trained on makes every result look better."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress

import numpy as np

from anomap.data.decode import in_flight
from anomap.data.files import shorten
from anomap.data.samples import Sample, Scan
from anomap.errors import UserError

log = logging.getLogger(__name__)

_DIGEST = 16  # bytes


def without_test_copies(scan: Scan, leave_out: bool = False) -> tuple[list[Sample], dict[str, str]]:
    """The training samples none of which is a test image, and name -> first name with the same content.

    UserError: a normal test file equals an abnormal one, or a training file a test file, unless with `leave_out` the
    latter are left out of training with a warning. Samples without a file are not compared: their split is official.
    """
    if not scan.train and len({sample.label for sample in scan.test}) <= 1:
        return [], {}  # copies within one kind do no harm
    copies: dict[str, str] = {}  # training name -> the test name it equals
    same: dict[str, str] = {}
    test_names = {sample.name for sample in scan.test}
    for group in same_content([*scan.train, *scan.test]):
        tested = {sample.name: sample.label for sample in group if sample.name in test_names}
        trained = [sample.name for sample in group if sample.name not in test_names]
        if len({*tested.values()}) > 1:
            raise UserError(f"one test image is both normal and abnormal: {' = '.join(tested)}; remove the wrong copy")
        copies |= dict.fromkeys(trained, next(iter(tested))) if tested else {}
        same |= {name: min(trained) for name in trained}
    again = {name: first for name, first in same.items() if name not in copies and name != first}
    if again:
        said = shorten([f"{name} = {first}" for name, first in again.items()])
        line = "%d of %d normal images are copies of others, byte for byte, and add nothing: %s"
        log.warning(line, len(again), len(scan.train), said)
    if copies:
        pairs = shorten([f"{name} = {test}" for name, test in copies.items()])
        problem = f"{len(copies)} training image(s) are also in the test set, byte for byte: {pairs}"
        if not leave_out:
            raise UserError(f"{problem}; remove one copy, or leave them untrained with data.on_error=skip")
        log.warning("%s; left out of training", problem)
    return [sample for sample in scan.train if sample.name not in copies], same


def same_content(samples: Iterable[Sample]) -> list[list[Sample]]:
    """Groups of two or more samples whose files are byte-identical, in the order given; only files of equal size are read."""
    by_size: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        with suppress(OSError):  # decoding reports unreadable files, and empty ones
            if (path := sample.path) is not None and (size := path.stat().st_size) > 0:
                by_size[size].append(sample)
    suspects = [sample for group in by_size.values() if len(group) > 1 for sample in group]
    # All digests in one array: an object for each of millions of files would fill the memory.
    digests, readable = bytearray(), []
    for sample, digest in in_flight(suspects, _digest, OSError):
        if isinstance(digest, bytes):
            digests += digest
            readable.append(sample)
    # NumPy ignores zero bytes at the end of such text, which cannot make two digests of equal length equal.
    _, kinds, counts = np.unique(np.frombuffer(digests, f"S{_DIGEST}"), return_inverse=True, return_counts=True)
    same: dict[int, list[Sample]] = defaultdict(list)
    for index in np.flatnonzero(counts[kinds] > 1):
        same[kinds[index]].append(readable[index])
    return list(same.values())


def _digest(sample: Sample) -> bytes:
    assert sample.path is not None
    with sample.path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_DIGEST)).digest()
