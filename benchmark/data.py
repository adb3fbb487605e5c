"""What data costs: the first pass, which decodes, and the later ones, which index an array."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as transforms

from anomap.data.images import load_image
from anomap.data.imageset import decode_image_set, to_float
from anomap.data.samples import NORMAL, Sample
from benchmark.generated import write_images
from benchmark.plan import Plan
from benchmark.setup import bare_loop, prepare
from benchmark.timing import interleaved, repeated

FILE_SIDE, SIDE = 300, 64  # solar cells as they lie on disk, and as they are trained on
PROCESSES = 2
_LOADED = 10  # epochs of the loader in one round


def keys(plan: Plan) -> list[str]:
    """What `measure` says."""
    del plan
    return [
        *("decode_images_per_second", "decode_pil_images_per_second", "decode_torchvision_images_per_second"),
        *("decode_against_best", "loader_images_per_second", "loader_share_of_step"),
    ]


def measure(plan: Plan) -> dict[str, float]:
    """Images per second of generated 300 px grey PNGs -> 64 px."""
    with tempfile.TemporaryDirectory(prefix="anomap-benchmark-") as temporary:
        paths = sorted(write_images(Path(temporary) / "files", plan.decoded, FILE_SIDE, plan.seed).iterdir())
        decoders: dict[str, Callable[[], float]] = {
            "anomap": lambda: decoded_once(paths),
            "pil": _through_loader(paths, read_pil),
            "torchvision": _through_loader(paths, read_torchvision),
        }
        rates = interleaved(decoders, plan.rounds)
        best = max(("pil", "torchvision"), key=rates.median)
        return {
            "decode_images_per_second": rates.median("anomap"),
            **{f"decode_{name}_images_per_second": rates.median(name) for name in ("pil", "torchvision")},
            "decode_against_best": rates.ratio("anomap", to=best),
            **_loader(plan, Path(temporary)),
        }


def decoded_once(paths: list[Path]) -> int:
    """Anomap's first pass: on threads, into one array."""
    samples = [Sample(path.name, NORMAL, "good", path.parent) for path in paths]
    return len(
        decode_image_set(samples, lambda s: load_image(s.path or "", 1, (SIDE, SIDE)), (1, SIDE, SIDE), "generated")
    )


def read_pil(path: Path) -> Tensor:
    """As a usual data set reads: Pillow, bilinear."""
    with Image.open(path) as image:
        small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(small)[None])


def read_torchvision(path: Path) -> Tensor:
    """As a usual data set reads: torchvision's decoder and resize, bilinear with antialiasing."""
    image = torchvision.io.decode_image(str(path), torchvision.io.ImageReadMode.GRAY)
    return transforms.resize(image, [SIDE, SIDE], antialias=True)


class _Files(Dataset[Tensor]):
    def __init__(self, paths: list[Path], read: Callable[[Path], Tensor]) -> None:
        self.paths, self.read = paths, read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return self.read(self.paths[index])


def _through_loader(paths: list[Path], read: Callable[[Path], Tensor]) -> Callable[[], float]:
    """One epoch of a DataLoader whose processes live on from round to round."""
    loader = DataLoader(_Files(paths, read), batch_size=64, num_workers=PROCESSES, persistent_workers=True)
    return lambda: sum(len(batch) for batch in loader)


def _loader(plan: Plan, folder: Path) -> dict[str, float]:
    """Later epochs: seconds of making a batch / seconds of a training step with it."""
    setup = prepare(plan.steps, folder, "model=skip_ganomaly", f"data.image_size={SIDE}", seed=plan.seed)
    loader = setup.data.train_dataloader()

    def epochs() -> float:
        return sum(len(to_float(batch["image"])) for _ in range(_LOADED) for batch in loader)

    step = bare_loop(setup.objective, setup.batches[:1], setup.config["model"]["optimizer"])
    size = len(setup.batches[0]["image"])
    rates = interleaved({"loader": epochs, "step": repeated(step, 3)}, plan.rounds)
    per_step = size / rates.median("loader")
    return {
        "loader_images_per_second": rates.median("loader"),
        "loader_share_of_step": per_step / (per_step + 1 / rates.median("step")),
    }
