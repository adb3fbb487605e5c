"""What hard augmentation costs: against a training step, and against the usual erasing of rectangles."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from anomap.config import build
from benchmark.plan import Plan
from benchmark.setup import Setup, bare_loop, prepare, train_config
from benchmark.timing import interleaved, repeated

METHODS = ("attention_network", "feature_attention_network")  # pixels at 64 px, and the main job's 256 px
_RATES = tuple(
    f"{name}_images_per_second" for name in ("hard", "hard_one_mask", "cutout", "torchvision_erasing", "kornia_erasing")
)
_CALLS = 20  # in one round


def keys(plan: Plan) -> list[str]:
    """What `measure` says."""
    del plan
    return [
        "augmentation_share_of_step",
        *(f"augmentation_share_of_step_{method}" for method in METHODS),
        *_RATES,
        *("hard_against_torchvision_erasing", "hard_against_kornia_erasing"),
    ]


def measure(plan: Plan) -> dict[str, Any]:
    """Shares of a step, the worst of them first; and images per second of batches of 64 at 64 px."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="anomap-benchmark-") as temporary:
        for method in METHODS if plan.full else METHODS[:1]:
            setup = prepare(2, Path(temporary), f"model={method}", seed=plan.seed)
            found[f"augmentation_share_of_step_{method}"] = _share(setup, plan.rounds)
            if method == METHODS[0]:
                found |= _beside_erasing(setup, plan.rounds)
    found["augmentation_share_of_step"] = max(found[key] for key in found if key.startswith("augmentation_share"))
    return found


def _share(setup: Setup, rounds: int) -> float:
    """Seconds of augmenting a batch / seconds of a whole step, the augmentation included."""
    batch, augmentation = setup.batches[0], setup.data.augmentation
    assert augmentation is not None
    donors = setup.data.train.images
    step = bare_loop(setup.objective, [batch], setup.config["model"]["optimizer"])
    augment = repeated(lambda: augmentation(batch["image"], batch["index"], 0, donors), _CALLS)
    rates = interleaved({"augment": augment, "step": repeated(step, 3)}, rounds)
    seconds = {name: 1 / rates.median(name) for name in ("augment", "step")}
    return seconds["augment"] / (seconds["augment"] + seconds["step"])


def _beside_erasing(setup: Setup, rounds: int) -> dict[str, Any]:
    """The same batch, one mask per image for all, and the hard preset as it comes, which makes one or two."""
    batch = setup.batches[0]
    images, index, donors = batch["image"], batch["index"], setup.data.train.images

    def preset(*overrides: str) -> Callable[[], object]:
        augmentation = build(train_config("data=folder", "data.root=nowhere", *overrides)["augmentation"])
        return lambda: augmentation(images, index, 0, donors)

    calls = {
        "hard": preset("augmentation=hard"),
        "hard_one_mask": preset("augmentation=hard", "augmentation.count=[1,1]"),
        "cutout": preset("augmentation=cutout"),
        "torchvision_erasing": lambda: torchvision_erasing(images),
    }
    erase = kornia_erasing()
    if erase is not None:
        calls["kornia_erasing"] = lambda: erase(images)
    work = {name: repeated(call, _CALLS) for name, call in calls.items()}
    rates = interleaved(work, rounds)
    found: dict[str, Any] = {f"{name}_images_per_second": rates.median(name) * len(images) for name in calls}
    for other in ("torchvision_erasing", "kornia_erasing"):
        found[f"hard_against_{other}"] = rates.ratio("hard_one_mask", to=other) if other in calls else None
    if erase is None:
        found["augmentation_note"] = 'kornia is not installed: pip install "anomap[benchmark]"'
    return found


def torchvision_erasing(images: Tensor) -> Tensor:
    """RandomErasing of each image by itself, as a data set's transform applies it (on a batch it erases one place in all)."""
    erase = v2.RandomErasing(p=1.0, scale=(0.02, 0.15), value="random")  # pyright: ignore[reportArgumentType]
    return torch.stack([erase(image) for image in images])


def kornia_erasing() -> Callable[[Tensor], Tensor] | None:
    """The batched RandomErasing of kornia, if it is there."""
    try:
        from kornia.augmentation import RandomErasing  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return RandomErasing(scale=(0.02, 0.15), p=1.0)
