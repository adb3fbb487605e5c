"""The table that a command prints at its end."""

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from anomap.runs.folder import RunFolder

_NAMES = {
    "image_auroc": "image AUROC",
    "image_ap": "image average precision",
    "image_f1": "image F1 at the threshold",
    "pixel_auroc": "pixel AUROC",
    "pixel_aupro": "pixel AUPRO",
    "threshold": "threshold",
    "promised_fpr": "false-positive rate, promised at most",
    "calibration_fpr": "false-positive rate, calibration",
    "test_fpr": "false-positive rate, test",
    "test_tpr": "true-positive rate, test",
    "estimate_tpr": "drawn damage caught: an estimate, no test",
    "estimate_auroc": "AUROC of drawn damage: an estimate, no test",
    "train_images_per_second": "training images/s",
    "score_images_per_second": "scoring images/s",
}


def print_summary(metrics: Mapping[str, Any], run: RunFolder) -> None:
    """Print the measures of a run, its notes, and where to look next."""
    table = Table(title=f"{metrics['model']} on {metrics['data']}, {metrics['image_size']} px", title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right")
    controls = {key: f"image AUROC of {key.removesuffix('_auroc')}" for key in metrics if key.startswith("control_")}
    for key, name in {**_NAMES, **controls}.items():
        if isinstance(value := metrics.get(key), float):
            name = f"{name} ({metrics['threshold_strategy']})" if key == "threshold" else name
            table.add_row(name, f"{value:.1f}" if key.endswith("second") else readable(value))
    console = Console(file=sys.stdout, soft_wrap=True)
    console.print(table)
    for key in ("threshold_note", "promise_note", "test_note", "pixel_note", "estimate_note", "training_note"):
        if metrics.get(key):
            console.print(f"note: {metrics[key]}", markup=False)
    if found := _estimated(metrics):
        console.print(f"estimate     caught {'; '.join(found)}", markup=False)
    found = run.report if run.report.is_file() else run.path
    name = "report" if found == run.report else "results"
    console.print(f"{name:<12} {found}\ncheckpoint   {metrics['checkpoint']}", markup=False)
    if run.tensorboard.is_dir():
        console.print(f"watch        tensorboard --logdir {run.path}", markup=False)


def _estimated(metrics: Mapping[str, Any]) -> list[str]:
    """How much drawn damage was caught, by kind and by size (in pixels as the detector sees it, ascending)."""
    kinds: list[str] = []
    sizes: dict[int, str] = {}
    for key, value in metrics.items():
        name = key.removeprefix("estimate_").removesuffix("_tpr")
        if f"estimate_{name}_tpr" != key:
            continue
        share = f"{100 * value:.0f} %"
        if name.startswith("size_"):
            pixels = int(metrics[f"estimate_{name}_px"])
            sizes[pixels] = f"{pixels} px {share}"
        else:
            kinds.append(f"{name} {share}")
    return [", ".join(part) for part in (kinds, [sizes[pixels] for pixels in sorted(sizes)]) if part]


def readable(value: float) -> str:
    """Four decimals; four digits with an exponent where these would show nothing, or a row of digits."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3e}"
