"""Training through the framework against a bare loop, and against the machine's limit, for each method."""

import tempfile
from pathlib import Path

import torch

from anomap.detection.operations import flops
from anomap.objectives.base import Batch, Step, to_signed
from anomap.objectives.skip_ganomaly import SkipGANomaly
from benchmark.plan import ADVERSARIAL, Plan
from benchmark.roofline import GIGA, limit
from benchmark.setup import MANY_IMAGES, Setup, bare_loop, prepare
from benchmark.timing import Case, interleaved

PUBLISHED_WIDTH = 64
SMALL = "skip_cbam_sa_32px"  # skip_cbam_sa_ganomaly at the published width on small images, clean and augmented

_PER_METHOD = (
    *("train_images_per_second", "bare_train_images_per_second", "framework_overhead"),
    *("train_mflop_per_image", "roofline_share_train"),
)


def keys(plan: Plan) -> list[str]:
    """What `measure` says."""
    del plan
    each = [f"{name}_{method}" for method in (*ADVERSARIAL, SMALL) for name in _PER_METHOD]
    return ["framework_overhead_worst", f"{SMALL}_train_images_per_second", *each]


def measure(plan: Plan) -> dict[str, float | None]:
    """Images per second of training, an image and its augmented copy counted once."""
    found: dict[str, float | None] = {}
    peak = limit()
    with tempfile.TemporaryDirectory(prefix="anomap-benchmark-") as temporary:
        folder = Path(temporary)
        for method in plan.methods:
            setup = prepare(plan.steps, folder, f"model={method}", seed=plan.seed, images=MANY_IMAGES)
            found |= _one(method, setup, plan.rounds, peak, folder)
        found |= _one(SMALL, small(plan, folder), plan.rounds, peak, folder)
    found["framework_overhead_worst"] = max(found[f"framework_overhead_{method}"] or 0 for method in plan.methods)
    found[f"{SMALL}_train_images_per_second"] = found[f"train_images_per_second_{SMALL}"]
    return found


def _one(name: str, setup: Setup, rounds: int, peak: Case, folder: Path) -> dict[str, float | None]:
    cases = {"framework": lambda: setup.framework(folder / name), "bare": setup.bare(), "peak": peak}
    rates = interleaved(cases, rounds)
    first = setup.batches[:1]
    once = bare_loop(setup.objective, first, setup.config["model"]["optimizer"])
    per_image = flops(once) / len(first[0]["image"])
    return {
        f"train_images_per_second_{name}": rates.median("framework"),
        f"bare_train_images_per_second_{name}": rates.median("bare"),
        f"framework_overhead_{name}": rates.ratio("bare", to="framework"),
        f"train_mflop_per_image_{name}": per_image / 1e6,
        f"roofline_share_train_{name}": rates.ratio("framework", to="peak") * per_image / GIGA,
    }


class BothPasses(SkipGANomaly):
    """Skip-GANomaly that reconstructs the clean image from the image and from its augmented copy, as the two-stage methods do."""

    uses_augmentation = True

    @classmethod
    def of(cls, method: SkipGANomaly) -> "BothPasses":
        """The same networks and weights of losses."""
        return cls(method.generator, method.discriminator, method.weights, method.adversarial)

    def generate(self, batch: Batch) -> Step:
        """x̂ and x̂_h in one pass."""
        x, x_h = to_signed(batch["image"]), to_signed(batch["augmented"])
        return Step({"x": x, "x̂": self.generator(torch.cat([x, x_h])).image})


def small(plan: Plan, folder: Path) -> Setup:
    """`skip_cbam_sa_ganomaly` on 32 pixels, at the published width and with both passes; batches of 64."""
    return prepare(
        plan.steps,
        folder,
        "model=skip_cbam_sa_ganomaly",
        "data.image_size=32",
        f"model.objective.generator.width={PUBLISHED_WIDTH}",
        f"model.objective.discriminator.width={PUBLISHED_WIDTH}",
        seed=plan.seed,
        adapt=BothPasses.of,
    )
