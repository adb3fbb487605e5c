"""Which files are images, and which images are the same."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from anomap.data.samples import Sample

EXTENSIONS = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".webp"})


def is_image(name: str) -> bool:
    """Whether a file name is that of a visible image file."""
    return not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS


def find_images(folder: Path) -> list[Path]:
    """All image files below a folder, sorted by path; hidden files and hidden folders are left out.

    Links to files are followed, links to folders below `folder` are not (they may lead in circles).
    """
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if is_image(name)]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def visible_folders(folder: Path) -> list[Path]:
    """The sub-folders of a folder, sorted by name, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def worker_count() -> int:
    """Threads for reading and decoding: the cores this process may use, at least 2 and at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(2, cores))


def same_content(samples: Iterable[Sample]) -> list[list[Sample]]:
    """Groups of two or more samples whose files are byte-identical, in the order given.

    Sizes are read first, so that only files of the same size are read whole. Empty and unreadable files
    are left out: decoding reports those.
    """
    by_size: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        size = _size(sample)
        if size > 0:
            by_size[size].append(sample)
    suspects = [sample for group in by_size.values() if len(group) > 1 for sample in group]
    with ThreadPoolExecutor(worker_count()) as pool:
        digests = list(pool.map(_digest, suspects))
    by_digest: dict[bytes, list[Sample]] = defaultdict(list)
    for sample, digest in zip(suspects, digests, strict=True):
        if digest is not None:
            by_digest[digest].append(sample)
    return [group for group in by_digest.values() if len(group) > 1]


def _size(sample: Sample) -> int:
    try:
        return sample.path.stat().st_size if sample.path is not None else 0
    except OSError:
        return 0


def _digest(sample: Sample) -> bytes | None:
    assert sample.path is not None  # _size() is 0 for those, so they are no suspects
    try:
        with sample.path.open("rb") as file:
            return hashlib.file_digest(file, hashlib.blake2b).digest()
    except OSError:
        return None


def shorten(names: Sequence[str], count: int = 3) -> str:
    """The first few names, for a message of one line."""
    rest = len(names) - count
    return ", ".join(names[:count]) + (f" and {rest} more" if rest > 0 else "")
