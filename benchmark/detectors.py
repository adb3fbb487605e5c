"""python -m benchmark.detectors DATA: anomap beside what people would pick instead, on the same files and threads.

    python scripts/textures.py textures
    python -m benchmark.detectors textures            # pip install "anomap[benchmark,pretrained,onnx]"
    python -m benchmark.detectors elpv                # and "anomap[elpv]"

DATA has the layout of `data=folder`, with a test set, best with masks; or it is `elpv`, solar cells, of which every method learns
from 200 normal ones (PatchCore's choice of its memory takes time by the square of their number).

A part of the training images is held out of every method, and sets every threshold. Each method runs in a process of its own; one
fits after the other; rounds of scoring take turns, and their median counts; exported files are timed in rounds of their own.
anomalib's PatchCore and PaDiM see the features that anomap's own default sees, by the same packaged weights. Its EfficientAD is
left out: its teacher's weights and its second data set are only to be had over the network.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from anomap.cli.signals import fail
from anomap.data.layouts.elpv import ElpvLayout
from anomap.data.layouts.folder import FolderLayout
from anomap.data.samples import NORMAL, split_calibration
from anomap.errors import UserError
from benchmark.installed import sizes
from benchmark.peer import Worker
from benchmark.timing import Rates, Timed, interleaved

METHODS = ("anomap feature_attention_network", "anomap control_mixture", "PatchCore", "PaDiM")
COLUMNS = {  # of the table: heading -> value, digits
    "image AUROC": ("image_auroc", 3),
    "pixel AP": ("pixel_ap", 3),
    "AUPRO": ("pixel_aupro", 3),
    "caught": ("caught", 3),
    "false alarms": ("false_alarms", 3),
    "files to detector, s": ("fit_seconds", 0),
    "images/s, 32 at a time": ("images_per_second", 1),
    "exported": ("exported_images_per_second", 1),
    "one at a time, p50 ms": ("p50_ms", 1),
    "p99 ms": ("p99_ms", 1),
    "peak MB, to the fit": ("fit_peak_mb", 0),
    "with scoring": ("peak_mb", 0),
    "file, MB": ("file_mb", 1),
    "exported file, MB": ("exported_mb", 1),
    "installed beyond torch, MB": ("installed_mb", 0),
}
CELLS = 200  # normal solar cells to learn from


def solar_cells(folder: Path, count: int = CELLS) -> Path:
    """Links to `count` normal cells to learn from and all of the test set, in the layout of `data=folder`.

    UserError without the package elpv-dataset.
    """
    found = ElpvLayout().scan()
    for split, samples in (("train", found.train[:: max(1, len(found.train) // count)][:count]), ("test", found.test)):
        for sample in samples:
            assert sample.path is not None
            place = folder / split / ("good" if sample.label == NORMAL else "defective") / Path(sample.name).name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(Path(sample.path).resolve())
    return folder


def same_files(root: Path, folder: Path, fraction: float) -> Path:
    """The training images in `all`, as anomap parts them itself, and parted in `train` and `calibration`."""
    found = FolderLayout(root).scan()
    training, held_out = split_calibration(found.train, fraction)
    for name, samples in (("train", training), ("calibration", held_out)):
        (folder / name / "good").mkdir(parents=True)
        for sample in samples:
            assert sample.path is not None
            for place in (folder / name / "good" / Path(sample.name).name, folder / "all" / sample.name):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(Path(sample.path).resolve())
    return folder


def measure(
    root: Path, methods: Sequence[str], rounds: int, side: int, seed: int, log: Path
) -> dict[str, dict[str, Any]]:
    """Method -> what its process measured; UserError if one fails."""
    with tempfile.TemporaryDirectory(prefix="anomap-detectors-") as temporary, ExitStack() as stack:
        root = solar_cells(Path(temporary) / "elpv") if str(root) == "elpv" else root
        data = same_files(root, Path(temporary) / "data", 0.15)
        workers: dict[str, Worker] = {}
        found: dict[str, dict[str, Any]] = {}
        for method in methods:
            output = Path(temporary) / method.replace(" ", "_")
            output.mkdir()
            threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
            spec = {
                "method": method,
                "root": str(root.absolute()),
                "data": str(data),
                "side": side,
                "batch": 32,
                "seed": seed,
            }
            spec |= {"output": str(output), "threads": threads}
            workers[method] = stack.enter_context(
                Worker(spec, output / "spec.json", log, module="benchmark.detector_worker")
            )
            found[method] = workers[method].ask("fit")
            print(f"{method}: {found[method]['fit_seconds']:.0f} s", file=sys.stderr)

        def case(worker: Worker) -> Timed:
            answer = worker.ask("score")
            return Timed(answer["count"], answer["seconds"])

        def rates(some: Mapping[str, Worker]) -> Rates:
            return interleaved({name: lambda w=worker: case(w) for name, worker in some.items()}, rounds)

        eager = rates(workers)
        for method, worker in workers.items():
            found[method] |= {"images_per_second": eager.median(method)} | worker.ask("single", count=100)
            found[method] |= worker.ask("test")  # whose peak is to know nothing of an export
            found[method] |= worker.ask("export")
            requirement = "anomap[pretrained]" if method.startswith("anomap") else "anomalib[cpu]"
            found[method]["installed_mb"] = sizes(requirement)[1]
        files = {name: worker for name, worker in workers.items() if found[name]["exported_mb"] is not None}
        exported = rates(files)
        for method in workers:
            rate = exported.median(method) if method in files else None
            found[method]["exported_images_per_second"] = rate
    return found


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """As Markdown."""
    lines = [f"| | {' | '.join(COLUMNS)} |", f"|---|{'---:|' * len(COLUMNS)}"]
    for method, values in found.items():
        cells = ["" if values[key] is None else f"{values[key]:,.{digits}f}" for key, digits in COLUMNS.values()]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmark.detectors", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="a data set in the layout of data=folder, with a test set; or elpv")
    parser.add_argument("--methods", nargs="+", default=METHODS, help=f"some of: {', '.join(METHODS)}")
    parser.add_argument("--rounds", type=int, default=3, help="of scoring, interleaved; the median counts")
    parser.add_argument("--side", type=int, default=256, help="of the images that all see")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("detectors.json"))
    options = parser.parse_args()
    log = options.output.with_suffix(".log").absolute()
    try:
        found = measure(options.data, options.methods, options.rounds, options.side, options.seed, log)
    except UserError as error:
        fail(str(error))
    options.output.write_text(json.dumps(found, indent=2))
    print(f"{table(found)}\n{options.output}")


if __name__ == "__main__":
    main()
