"""Parameters and floating-point operations of every model, as the Markdown table of docs/methods.md.

python scripts/model_table.py
"""

import sys
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from torch import nn

from anomap.config import build, config_dir, plain
from anomap.objectives.base import AdversarialObjective, Objective

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmark is no part of the package
from benchmark.roofline import flops


def configured(model: str) -> tuple[Objective, int, int]:
    """The method as `model=<model>` builds it for one-channel images, their side, and the trained networks' count."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = plain(compose("train", [f"model={model}", "data=folder", "data.root=nowhere", "data.channels=1"]))
    return build(config["model"]["objective"]), config["data"]["image_size"], config["data"]["channels"]


def parameters(module: nn.Module) -> int:
    """How many numbers there are to train or to keep."""
    return sum(parameter.numel() for parameter in module.parameters())


def stages(objective: AdversarialObjective) -> list[AdversarialObjective]:
    """Stage 1, if there is one, and the method itself."""
    first = getattr(objective, "stage1", None)
    return [*([first] if isinstance(first, AdversarialObjective) else []), objective]


@torch.no_grad()
def row(model: str) -> str:
    """One line of the table."""
    objective, side, channels = configured(model)
    assert isinstance(objective, AdversarialObjective)
    parts = stages(objective.eval())
    generators, discriminators = (
        sum(parameters(getattr(part, name)) for part in parts) for name in ("generator", "discriminator")
    )
    images = torch.rand(4, channels, side, side)
    objective.requires_grad_(False)
    for part in parts:
        part.learn_statistics([images])
    operations = flops(lambda: objective.score(images[:1]))
    frozen = parameters(objective) - generators - discriminators
    cells = (f"{generators / 1e6:.2f}", f"{discriminators / 1e6:.2f}", f"{frozen / 1e6:.2f}" if frozen > 1e4 else "0")
    return f"| `{model}` | {side} | {' | '.join(cells)} | {operations / 1e6:,.0f} |"


def main() -> None:
    """Print the table."""
    print("| `model=` | image, px | generators, M | discriminators, M | frozen encoder, M | score, MFLOP per image |")
    print("|---|---:|---:|---:|---:|---:|")
    for path in sorted((config_dir() / "model").glob("*.yaml")):
        if not path.stem.startswith("control_"):
            print(row(path.stem))


if __name__ == "__main__":
    main()
