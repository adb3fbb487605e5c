"""Parameters of every model, as the Markdown table of docs/methods.md.

python scripts/model_table.py
"""

from hydra import compose, initialize_config_dir
from torch import nn

from anomap.config import build, config_dir, plain
from anomap.objectives.base import AdversarialObjective, Objective


def configured(model: str) -> tuple[Objective, int]:
    """The method as `model=<model>` builds it for one-channel images, and their side in pixels."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = plain(compose("train", [f"model={model}", "data=folder", "data.root=nowhere", "data.channels=1"]))
    return build(config["model"]["objective"]), config["data"]["image_size"]


def parameters(module: nn.Module) -> int:
    """How many numbers there are to train or to keep."""
    return sum(parameter.numel() for parameter in module.parameters())


def stages(objective: AdversarialObjective) -> list[AdversarialObjective]:
    """Stage 1, if there is one, and the method itself."""
    first = getattr(objective, "stage1", None)
    return [*([first] if isinstance(first, AdversarialObjective) else []), objective]


def row(model: str) -> str:
    """One line of the table."""
    objective, side = configured(model)
    assert isinstance(objective, AdversarialObjective)
    parts = stages(objective)
    generators, discriminators = (
        sum(parameters(getattr(part, name)) for part in parts) for name in ("generator", "discriminator")
    )
    frozen = parameters(objective) - generators - discriminators
    cells = (f"{generators / 1e6:.2f}", f"{discriminators / 1e6:.2f}", f"{frozen / 1e6:.2f}" if frozen > 1e4 else "0")
    return f"| `{model}` | {side} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    print("| `model=` | image, px | generators, M | discriminators, M | frozen encoder, M |")
    print("|---|---:|---:|---:|---:|")
    for path in sorted((config_dir() / "model").glob("*.yaml")):
        if not path.stem.startswith("control_"):
            print(row(path.stem))


if __name__ == "__main__":
    main()
