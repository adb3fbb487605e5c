"""What guidance is worth: how well stage 2 restores what an augmentation changed, of kinds that no stage was trained with.

    python scripts/guidance.py RUN [RUN ...]        # runs of model=feature_adgan, one for each guide and seed

The runs were trained with some of the fills (`augmentation.only_fills`); here calibration normals are augmented with the
others. The restoration error of an image is the mean of |G(x_h) - x|² over the cells that the mask touches, and the
channels; 1 is what the mean of normal features reaches. Prints one line per run and, for each data set, the mean over seeds
and the paired differences.
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from anomap.config import build
from anomap.data.build import build_data
from anomap.data.imageset import to_float
from anomap.detection.checkpoint import load_model
from anomap.errors import UserError
from anomap.objectives.adgan import GuidedGAN
from anomap.runs.checkpoint_file import device_for
from anomap.runs.folder import RunFolder

BATCH = 32
EPOCHS = 3  # augmentations of each image


@torch.inference_mode()
def restoration_error(run: Path, device: str) -> dict[str, Any]:
    """The mean restoration error of a run, and what tells it from others.

    Raises:
        UserError: no finished run of a two-stage method, or one that was trained with all fills.
    """
    model, config = load_model(RunFolder(run).last_checkpoint, device)
    method, chosen = model.objective, config["augmentation"]
    if not isinstance(method, GuidedGAN) or not chosen.get("only_fills"):
        raise UserError(
            f"{run}: give a run of a two-stage method that was trained with some of augmentation.only_fills"
        )
    others = [name for name in chosen["fills"] if name not in chosen["only_fills"]]
    augmentation = build({**chosen, "only_fills": others, "count": [1, 1], "seed": 1})
    data = build_data(config["data"], None, config["seed"], method.stride)
    data.setup()
    errors: list[torch.Tensor] = []
    for epoch in range(EPOCHS):
        for index in torch.arange(len(data.calibration)).split(BATCH):
            images = to_float(torch.from_numpy(data.calibration.images[index.numpy()]).to(device))
            augmented, mask = augmentation(images, index, epoch, data.calibration.images)
            clean = method.representation.local(method.representation(images))
            made = method.restored(method.representation(augmented))
            inside = F.adaptive_max_pool2d(mask, made.shape[-2:])
            error = ((made - clean).square().mean(1, keepdim=True) * inside).sum((1, 2, 3)) / inside.sum((1, 2, 3))
            errors.append(error[torch.isfinite(error)].cpu())  # an augmentation that changed nothing has no inside
    root = config["data"].get("root") or config["data"]["name"]
    found = torch.cat(errors)
    return {
        "data": Path(str(root)).name,
        "seed": config["seed"],
        "guide": method.guide,
        "error": float(found.mean()),
        "images": len(found),
    }


def compare(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown: the error of each guide, and by how much `learned` is better, seed by seed."""
    sets: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        sets[row["data"]][row["guide"]][row["seed"]] = row["error"]
    lines = ["| data | guide | error inside the mask | above `learned`, per seed |", "|---|---|---:|---:|"]
    for name, guides in sets.items():
        for guide, errors in guides.items():
            shared = [seed for seed in errors if seed in guides.get("learned", {})]
            more = [errors[seed] - guides["learned"][seed] for seed in shared]
            lines.append(
                f"| {name} | {guide} | {spread(list(errors.values()))} | {spread(more) if any(more) else ''} |"
            )
    return lines


def spread(values: list[float]) -> str:
    """Mean ± sample standard deviation."""
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{deviation}" if values else ""


def main() -> None:
    """Measure the runs that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs of anomap-train")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps, or auto")
    asked = parser.parse_args()
    rows = []
    for run in asked.runs:
        rows.append(restoration_error(run, device_for(asked.device, "last.ckpt")))
        print(json.dumps(rows[-1]), flush=True)
    print("\n".join(compare(rows)))


if __name__ == "__main__":
    main()
