"""python -m benchmark.installed REQUIREMENT...: what an installation takes on disk, with everything it depends on.

    python -m benchmark.installed "anomap[pretrained]" "anomalib[cpu]"

Counts the installed distributions that a requirement leads to, in the environment this runs in. *Beyond torch* leaves out torch
and torchvision and what these depend on, which every one of them has.
"""

import json
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SHARED = ("torch", "torchvision")


def closure(requirements: Iterable[str]) -> dict[str, Distribution]:
    """Name -> every installed distribution that the requirements lead to, themselves included."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                found[name] = distribution(name)
            except PackageNotFoundError:  # another platform's, or an optional one that is not there
                break
            needed = map(Requirement, found[name].requires or ())
            waiting += [one for one in needed if one.marker is None or one.marker.evaluate({"extra": extra})]
    return found


def size(distributions: Iterable[Distribution]) -> float:
    """MB of their files; of one installed in place (pip install -e) those of its package."""
    return sum(path.stat().st_size for one in distributions for path in _files(one) if path.is_file()) / 1e6


def sizes(requirement: str) -> tuple[float, float]:
    """MB of all that a requirement leads to, and of what torch and torchvision do not bring.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    distribution(Requirement(requirement).name)
    whole, shared = closure([requirement]), closure(SHARED)
    own = [one for name, one in whole.items() if name not in shared]
    return size(whole.values()), size(own)


def _files(one: Distribution) -> Iterable[Path]:
    origin = json.loads(one.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return Path(next(iter(import_module(one.name).__path__))).rglob("*")
    return [Path(str(one.locate_file(path))) for path in one.files or ()]


def main() -> None:
    for requirement in sys.argv[1:]:
        whole, own = sizes(requirement)
        print(f"{requirement}: {whole:,.0f} MB, {own:,.0f} MB beyond {' and '.join(SHARED)}")


if __name__ == "__main__":
    main()
