"""Peak memory of the commands as the images grow in number, and how long each command takes to start."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomap.errors import UserError
from benchmark.generated import write_data_set
from benchmark.plan import COMMANDS, IMAGE_COUNTS, Plan
from benchmark.processes import environment
from benchmark.timing import interleaved

MEASURED = ("train", "evaluate", "predict")
SIDE = 32
CACHE_MB = 16  # so small that the largest training does not fit and has to use its mapped file
_TINY = (
    *("model=ganomaly", "data=folder", "data.channels=1", f"data.image_size={SIDE}", f"data.cache_mb={CACHE_MB}"),
    *("model.objective.generator.width=8", "model.objective.generator.latent=16"),
    *("model.objective.discriminator.width=8", "data.batch_size=128"),
    *("trainer.accelerator=cpu", "trainer.max_epochs=1", "logger=none"),
)


def keys(plan: Plan) -> list[str]:
    """What `measure` says."""
    del plan
    sizes = [
        f"{command}_{what}_{_short(n)}" for command in MEASURED for n in IMAGE_COUNTS for what in ("rss_mb", "seconds")
    ]
    growth = [growth_key(command, to) for command in MEASURED for to in IMAGE_COUNTS[1:]]
    starts = [f"{what}_{command}" for command in COMMANDS for what in ("help_seconds", "import_seconds")]
    return ["memory_cache_mb", *growth, *sizes, *starts]


def measure(plan: Plan) -> dict[str, Any]:
    """MB at the peak, the share by which it grew, and seconds of `--help` and of importing a command's module."""
    found: dict[str, Any] = {"memory_cache_mb": CACHE_MB}
    with tempfile.TemporaryDirectory(prefix="anomap-benchmark-") as temporary:
        folder = Path(temporary)
        checkpoint, model = folder / "run" / "checkpoints" / "last.ckpt", None
        for count in plan.image_counts:
            root = write_data_set(folder / str(count), count, 8, SIDE, plan.seed)
            run = folder / ("run" if model is None else f"run-{count}")
            images = root / "train" / "good"
            _record(found, "train", count, [*_TINY, f"data.root={root}", f"hydra.run.dir={run}"], folder)
            model = model or _exported(checkpoint, folder)
            evaluate = [f"checkpoint={checkpoint}", f"data.normal_dir={images}", "figures=false"]
            _record(found, "evaluate", count, [*evaluate, f"hydra.run.dir={folder}/evaluate-{count}"], folder)
            predict = [f"checkpoint={model}", f"input={images}", "overlays=none"]
            _record(found, "predict", count, [*predict, f"hydra.run.dir={folder}/predict-{count}"], folder)
        for command in MEASURED:
            for to in plan.image_counts[1:]:
                first, last = (found[f"{command}_rss_mb_{_short(n)}"] for n in (plan.image_counts[0], to))
                found[growth_key(command, to)] = last / first - 1
        return found | _starts(plan, folder)


def growth_key(command: str, to: int) -> str:
    """`predict_rss_growth_1k_to_100k`."""
    return f"{command}_rss_growth_{_short(IMAGE_COUNTS[0])}_to_{_short(to)}"


def _short(count: int) -> str:
    return f"{count // 1000}k"


def _record(found: dict[str, Any], command: str, count: int, overrides: Sequence[str], folder: Path) -> None:
    began = time.perf_counter()
    found[f"{command}_rss_mb_{_short(count)}"] = peak_of(command, overrides, folder) / 1e6
    found[f"{command}_seconds_{_short(count)}"] = time.perf_counter() - began


def peak_of(command: str, overrides: Sequence[str], folder: Path) -> int:
    """Peak memory of a command in a process of its own, in bytes.

    Raises:
        UserError: it failed.
    """
    file = folder / "peak"
    _run([sys.executable, "-m", "benchmark.measured", str(file), command, *overrides], command)
    return int(file.read_text())


def _exported(checkpoint: Path, folder: Path) -> Path:
    """An ONNX file of the checkpoint, or the checkpoint itself where ONNX is not installed."""
    try:
        peak_of("export", [f"checkpoint={checkpoint}", f"hydra.run.dir={folder}/export"], folder)
    except UserError:
        return checkpoint
    return checkpoint.with_suffix(".onnx")


def _starts(plan: Plan, folder: Path) -> dict[str, float]:
    def start(command: str) -> int:
        code = f"from anomap.cli.entry import {command}; {command}()"
        _run([sys.executable, "-c", code, "--help"], command, folder)
        return 1

    rates = interleaved({command: lambda c=command: start(c) for command in COMMANDS}, plan.rounds)
    return {
        **{f"help_seconds_{command}": 1 / rates.median(command) for command in COMMANDS},
        **{f"import_seconds_{command}": _importing(command, plan.imports) for command in COMMANDS},
    }


def _importing(command: str, times: int) -> float:
    """Seconds that importing the command's module takes by Python's own count, the median of so many times."""
    code = f"import anomap.commands.{command}"

    def once() -> float:
        lines = _run([sys.executable, "-X", "importtime", "-c", code], command).splitlines()
        own = [line.removeprefix("import time:").split("|")[0] for line in lines if line.startswith("import time:")]
        return sum(int(value) for value in own if value.strip().isdigit()) / 1e6

    return statistics.median(once() for _ in range(times))


def _run(arguments: Sequence[str], command: str, folder: Path | None = None) -> str:
    """Standard error of a process that ends well."""
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=folder, env=environment(), check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"anomap-{command} failed in the benchmark: {last}")
    return done.stderr
