"""What defects among the training images do, and what the remedies are worth, as a Markdown table.

    python scripts/textures.py textures
    python scripts/contamination.py textures --work /tmp/contaminated -- data.image_size=128
    python scripts/contamination.py textures --work /tmp/small --shares 0 0.05 --seeds 0 -- model.steps=20

Of a data set in the layout of `data=folder`, defects are moved from the test set to the training images, spread over the kinds
by a seed: of 5 %, 5 of 100 training images are defects. The rest of the test set is the same in every row, since the defects of
the largest share are never tested. What follows `--` goes to anomap-train.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from anomap.data.layouts.folder import FolderLayout
from anomap.data.samples import ABNORMAL, Sample
from anomap.runs.folder import RunFolder, read_metrics
from anomap.runs.suspicious import SUSPICIOUS

PLANTED = "planted_"  # begins the names of defects among the training images


def planted(samples: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    """So many abnormal samples, of each kind in turn, in an order drawn by the seed; ValueError if there are fewer."""
    kinds: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.label == ABNORMAL:
            kinds.setdefault(sample.defect, []).append(sample)
    rng, found = np.random.default_rng(seed), list[Sample]()
    orders = [[kind[place] for place in rng.permutation(len(kind))] for kind in kinds.values()]
    while len(found) < count and any(orders):
        found += [order.pop() for order in orders if order]
    if len(found) < count:
        raise ValueError(f"{count} defects are wanted, and the test set has {len(found)}")
    return found[:count]


def mix(root: Path, target: Path, share: float, largest: float, seed: int) -> int:
    """Make the data set with that share of defects among the training images, by links; how many they are."""
    found = FolderLayout(root).scan()
    normals = [sample for sample in found.train if sample.path is not None]
    wanted = [round(len(normals) * part / (1 - part)) for part in (share, largest)]
    taken = planted(found.test, wanted[1], seed)
    shutil.rmtree(target, ignore_errors=True)
    for sample in normals:
        link(root, sample.name, target / "train" / "good" / sample.name.replace("/", "_"))
    for number, sample in enumerate(taken[: wanted[0]]):
        link(root, sample.name, target / "train" / "good" / f"{PLANTED}{number:03d}_{sample.name.replace('/', '_')}")
    untested = {sample.name for sample in taken}
    for sample in found.test:
        if sample.name in untested:
            continue
        link(root, sample.name, target / sample.name)
        for mask in sample.masks:
            link(root, mask.relative_to(root).as_posix(), target / mask.relative_to(root))
    return wanted[0]


def link(root: Path, name: str, place: Path) -> None:
    """The file of a data set at another place."""
    place.parent.mkdir(parents=True, exist_ok=True)
    os.symlink((root / name).absolute(), place)


def trained(data: Path, folder: Path, overrides: Sequence[str]) -> RunFolder:
    """A finished run of anomap-train; one that is there is taken as it is."""
    run = RunFolder(folder)
    if not run.finished:
        command = [sys.executable, str(Path(__file__).with_name("train.py")), "data=folder", f"data.root={data}"]
        common = ["controls=false", "figures=false", f"hydra.run.dir={folder}"]
        subprocess.run([*command, *common, *overrides], check=True, stdout=sys.stderr)
    return run


def named(run: RunFolder) -> tuple[int, int]:
    """How many planted defects and how many clean images the run calls suspicious."""
    with run.suspicious.open(newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file) if row["verdict"] == SUSPICIOUS]
    bad = sum(Path(path).name.startswith(PLANTED) for path in paths)
    return bad, len(paths) - bad


def one(root: Path, work: Path, share: float, largest: float, seed: int, overrides: Sequence[str]) -> dict[str, float]:
    """The numbers of one share and seed."""
    place = work / f"{share:g}-{seed}"
    count = mix(root, place / "data", share, largest, seed)

    def run(name: str, *more: str) -> RunFolder:
        return trained(place / "data", place / name, [*overrides, f"seed={seed}", *more])

    plain = run("plain")
    bad, clean = named(plain)
    remedied = run("excluded", f"data.exclude={plain.suspicious}") if bad + clean else plain
    tolerant = run("tolerant", f"data.contamination={max(share, 0.02):g}")
    area = {key: read_metrics(r.metrics) for key, r in (("none", plain), ("exclude", remedied), ("tolerate", tolerant))}
    numbers = {f"{key}_{name}": float(found[name] or 0) for key, found in area.items() for name in MEASURES}
    return {**numbers, "planted": count, "named": bad, "clean_named": clean}


MEASURES = ("image_auroc", "test_tpr", "test_fpr")


def spread(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation."""
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def main() -> None:
    """Train and print the table, a line when it is known."""
    arguments, overrides = sys.argv[1:], list[str]()
    if "--" in arguments:
        arguments, overrides = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path, help="data set in the layout of data=folder, with a test set")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for mixed data sets and runs; finished runs there count"
    )
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 0.02, 0.05, 0.1], help="of defects in training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args(arguments)
    print(
        "| defects in training | planted | named | clean named | image AUROC | `data.exclude` | `data.contamination` "
        "| caught / false alarms | `data.exclude` | `data.contamination` |"
    )
    print("|---:" * 10 + "|")
    for share in asked.shares:
        found = [one(asked.root, asked.work, share, max(asked.shares), seed, overrides) for seed in asked.seeds]
        column = {key: [numbers[key] for numbers in found] for key in found[0]}
        counts = " | ".join(f"{sum(column[key]):.0f}" for key in ("planted", "named", "clean_named"))
        areas = " | ".join(spread(column[f"{key}_image_auroc"]) for key in ("none", "exclude", "tolerate"))
        rates = " | ".join(
            f"{mean(column[f'{key}_test_tpr']):.2f} / {mean(column[f'{key}_test_fpr']):.3f}"
            for key in ("none", "exclude", "tolerate")
        )
        print(f"| {100 * share:g} % | {counts} | {areas} | {rates} |", flush=True)
    print(
        f"\nSeeds {', '.join(map(str, asked.seeds))}: sums of counts, mean ± sd of AUROC, means of rates; data.contamination is "
        f"the true share, at least 0.02. anomap-train {' '.join(overrides)}"
    )


if __name__ == "__main__":
    main()
