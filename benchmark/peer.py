"""Against anomalib's GANomaly: training, scoring from files and AUROC on the same images, batch, size and threads.

anomalib runs in a process of its own (`peer_worker`), which waits while anomap is timed and works while anomap waits.

Two settings of anomap stand beside it: *same network* is `model=ganomaly` with the peer's layer sizes (three channels, 64
wide, latent 100); *default* is what `model=ganomaly` gives at that image size without any override.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch

from anomap.commands.predict import predict
from anomap.data.samples import NORMAL, Sample
from anomap.detection import checkpoint
from anomap.detection.metrics import auroc
from anomap.detection.operations import flops
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError
from anomap.evaluation.measure import batches
from anomap.objectives.base import to_signed
from anomap.runs.folder import RunFolder
from anomap.training.clean import CleanBatches
from anomap.training.norms import settle_norms
from anomap.training.train import train_stage
from benchmark.plan import Plan
from benchmark.processes import environment
from benchmark.scoring import detector
from benchmark.setup import Setup, composed, prepare
from benchmark.timing import Timed, interleaved, settle

SIDE, BATCH = 64, 64
SAME = ("data.channels=3", "model.objective.generator.width=64", "model.objective.discriminator.width=64")
SETTINGS: dict[str, Sequence[str]] = {"same_network": SAME, "default": ()}
_SCORED = 4  # batches in one round of scoring, per batch of training


def keys(plan: Plan) -> list[str]:
    """What `measure` says."""
    del plan
    ours = [
        name
        for setting in SETTINGS
        for name in (
            f"train_speedup_vs_anomalib_{setting}",
            f"score_speedup_vs_anomalib_{setting}",
            f"train_images_per_second_{setting}",
            f"score_images_per_second_{setting}",
            f"auroc_{setting}",
            f"auroc_same_time_{setting}",
            f"epochs_same_time_{setting}",
            f"bare_score_images_per_second_{setting}",
            f"generator_mflop_{setting}",
            f"discriminator_mflop_{setting}",
        )
    ]
    theirs = [
        f"anomalib_{name}"
        for name in (
            *("version", "loader_processes", "generator_mflop", "discriminator_mflop"),
            *("auroc", "auroc_same_time", "epochs_same_time"),
            *("train_images_per_second", "score_images_per_second", "bare_score_images_per_second"),
            *("bare_train_images_per_second", "bare_train_channels_last_images_per_second"),
        )
    ]
    return [*ours, *theirs, "peer_epochs", "peer_images"]


def measure(plan: Plan, log_file: Path) -> dict[str, Any]:
    """Images per second, ratios within rounds, and AUROC on raw scores after the same epochs and after the same time.

    Raises:
        UserError: anomalib or the images are not installed.
    """
    if importlib.util.find_spec("anomalib") is None:
        raise UserError('anomalib is not installed: pip install "anomap[benchmark]"')
    with tempfile.TemporaryDirectory(prefix="anomap-benchmark-") as temporary:
        folder = Path(temporary)
        ours = {name: Ours(name, overrides, plan, folder) for name, overrides in SETTINGS.items()}
        root = same_files(ours["same_network"].setup, folder / "files")
        with ExitStack() as stack:
            workers = {
                count: stack.enter_context(
                    Worker(_spec(root, plan, count, folder), folder / f"peer{count}.json", log_file)
                )
                for count in plan.peer_loaders
            }
            return _measure(plan, ours, workers, root)


def _measure(plan: Plan, ours: "dict[str, Ours]", workers: "dict[int, Worker]", root: Path) -> dict[str, Any]:
    processes = _best_loader(plan, workers)
    peer = workers[processes]
    train, score = plan.peer_batches, plan.peer_batches * _SCORED
    facts = peer.ask("facts")
    training = interleaved(
        {
            "anomalib": lambda: peer.time("train", batches=train),
            "anomalib bare": lambda: peer.time("bare_train", batches=train, channels_last=False),
            "anomalib bare channels last": lambda: peer.time("bare_train", batches=train, channels_last=True),
            **{name: own.train for name, own in ours.items()},
        },
        plan.rounds,
        pause=settle,
    )
    found = _training(training)
    if plan.peer_epochs:
        for name, own in ours.items():
            found |= own.aurocs(plan.peer_epochs, found[f"train_speedup_vs_anomalib_{name}"])
        tested = peer.ask("auroc", epochs=plan.peer_epochs)["auroc"]
        found |= {f"anomalib_{name}": tested for name in ("auroc", "auroc_same_time")}
        found |= {"anomalib_epochs_same_time": plan.peer_epochs, "peer_epochs": plan.peer_epochs}
    for own in ours.values():
        own.prepare_scoring(root)
    scoring = interleaved(
        {
            "anomalib": lambda: peer.time("score", batches=score),
            "anomalib bare": lambda: peer.time("bare_score", batches=train),
            **{name: own.score for name, own in ours.items()},
            **{f"{name} bare": own.bare_score for name, own in ours.items()},
        },
        plan.rounds,
        pause=settle,
    )
    for name, own in ours.items():
        found[f"score_images_per_second_{name}"] = scoring.median(name)
        found[f"score_speedup_vs_anomalib_{name}"] = scoring.ratio(name, to="anomalib")
        found[f"bare_score_images_per_second_{name}"] = scoring.median(f"{name} bare")
        found |= own.mflop()
    return {
        **found,
        **{f"anomalib_{name}": value for name, value in facts.items()},
        "anomalib_score_images_per_second": scoring.median("anomalib"),
        "anomalib_bare_score_images_per_second": scoring.median("anomalib bare"),
        "anomalib_loader_processes": processes,
        "peer_images": len(ours["default"].setup.data.train),
    }


def _training(rates: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in SETTINGS:
        found[f"train_images_per_second_{name}"] = rates.median(name)
        found[f"train_speedup_vs_anomalib_{name}"] = rates.ratio(name, to="anomalib")
    found["anomalib_train_images_per_second"] = rates.median("anomalib")
    found["anomalib_bare_train_images_per_second"] = rates.median("anomalib bare")
    found["anomalib_bare_train_channels_last_images_per_second"] = rates.median("anomalib bare channels last")
    return found


def _best_loader(plan: Plan, workers: "dict[int, Worker]") -> int:
    """With how many loader processes the peer trains fastest here."""
    if len(workers) == 1:
        return next(iter(workers))
    cases: dict[str, Callable[[], Timed]] = {
        str(count): lambda worker=worker: worker.time("train", batches=plan.peer_batches)
        for count, worker in workers.items()
    }
    rates = interleaved(cases, 1, pause=settle)
    return max(workers, key=lambda count: rates.median(str(count)))


def _spec(root: Path, plan: Plan, workers: int, folder: Path) -> dict[str, Any]:
    return {
        "train": str(root / "train"),
        "test_normal": str(root / "test_normal"),
        "test_abnormal": str(root / "test_abnormal"),
        "side": SIDE,
        "batch": BATCH,
        "threads": torch.get_num_threads(),
        "seed": plan.seed,
        "workers": workers,
        "output": str(folder / "anomalib"),
    }


def same_files(setup: Setup, root: Path) -> Path:
    """Folders `train`, `test_normal`, `test_abnormal` of the very files that a setup trains and tests on."""

    def place(samples: Sequence[Sample], folder: Path) -> None:
        folder.mkdir(parents=True)
        for number, sample in enumerate(samples):
            assert sample.path is not None
            target = folder / f"{number:05d}{sample.path.suffix}"
            try:
                os.link(sample.path, target)
            except OSError:  # another disk
                shutil.copyfile(sample.path, target)

    place(setup.data.train.samples, root / "train")
    place([sample for sample in setup.data.test.samples if sample.label == NORMAL], root / "test_normal")
    place([sample for sample in setup.data.test.samples if sample.label != NORMAL], root / "test_abnormal")
    return root


class Worker:
    """The peer's process.

    Args:
        spec: what it works on.
        file: where `spec` is written for it.
        log_file: where it says whatever it says.
        module: what runs there.
    """

    def __init__(self, spec: dict[str, Any], file: Path, log_file: Path, module: str = "benchmark.peer_worker") -> None:
        self._spec, self._file, self._log_file, self._module = spec, file, log_file, module

    def __enter__(self) -> "Worker":
        self._file.write_text(json.dumps(self._spec))
        with self._log_file.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module, str(self._file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self._file.parent,  # it leaves folders where it runs
                env=environment(),
            )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it ended by itself
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, task: str, **arguments: Any) -> dict[str, Any]:
        """One task's answer.

        Raises:
            UserError: the process ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # the missing answer says it
            self._process.stdin.write(json.dumps({"do": task, **arguments}) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise UserError(
                f"{self._spec.get('method', 'anomalib')} failed at {task!r}: see the end of {self._log_file}"
            )
        return json.loads(line)

    def time(self, task: str, **arguments: Any) -> Timed:
        """A task that times itself."""
        answer = self.ask(task, **arguments)
        return Timed(answer["count"], answer["seconds"])


class Ours:
    """One setting of anomap."""

    def __init__(self, name: str, overrides: Sequence[str], plan: Plan, folder: Path) -> None:
        self.name, self.folder = name, folder / name
        fixed = ("data=elpv", "model=ganomaly", f"data.image_size={SIDE}", f"data.batch_size={BATCH}")
        self.overrides = (*fixed, *overrides)
        self.plan = plan
        self.setup = prepare(plan.peer_batches, folder, *self.overrides, seed=plan.seed)
        self.scored = plan.peer_batches * _SCORED * BATCH
        self._times = 0

    def train(self) -> Timed:
        """As many batches as the peer, through `anomap-train`'s fit."""
        return self.setup.framework(self.folder)

    def aurocs(self, epochs: int, speedup: float) -> dict[str, Any]:
        """AUROC after the peer's epochs, and after the whole epochs that fit into the peer's time for them, at least one."""
        fitting = max(1, int(epochs * speedup))
        first = self.train_and_test(epochs)
        return {
            f"auroc_{self.name}": first,
            f"auroc_same_time_{self.name}": first if fitting == epochs else self.train_and_test(fitting),
            f"epochs_same_time_{self.name}": fitting,
        }

    def train_and_test(self, epochs: int) -> float | None:
        """AUROC after so many epochs from the start, as `anomap-train` trains."""
        setup = self.setup = prepare(1, self.folder, *self.overrides, seed=self.plan.seed)
        trainer = {**setup.config["trainer"], "max_epochs": epochs, "limit_val_batches": 0}
        run = RunFolder(self.folder / "whole")
        config = {"trainer": trainer, "logger": setup.config["logger"]}
        done = train_stage(setup.objective, setup.data, setup.config["model"], config, run)
        setup.objective = done.objective
        settle_norms(done.objective, CleanBatches(setup.data))  # as `train_method` does
        model = ScoringModel(done.objective, setup.data.image_size)
        test = model.score_all(batches(setup.data.test_dataloader(), model))
        return auroc(test.scores, test.labels)

    def prepare_scoring(self, root: Path) -> None:
        """A checkpoint, and a folder of as many files as the peer scores."""
        self._model = detector(self.setup)
        self._checkpoint = self.folder / "last.ckpt"
        checkpoint.save(self._checkpoint, {checkpoint.SECTION: checkpoint.section(self._model, self.setup.config)})
        self._input = self.folder / "input"
        self._input.mkdir(parents=True, exist_ok=True)
        files = [*sorted((root / "test_normal").iterdir()), *sorted((root / "test_abnormal").iterdir())]
        for number, file in enumerate(files[: self.scored]):
            shutil.copyfile(file, self._input / f"{number:05d}{file.suffix}")

    def score(self) -> Timed:
        """Files to scores, as `anomap-predict` does it; loading of the model left out, as for the peer."""
        self._times += 1
        config = {
            **composed("predict"),
            "checkpoint": str(self._checkpoint),
            "input": str(self._input),
            "overlays": "none",
            "batch_size": BATCH,
            "output": str(self.folder / f"scores-{self._times}"),
        }
        done = predict(config, self.folder)
        return Timed(done.scored, done.seconds)

    @torch.inference_mode()
    def bare_score(self) -> float:
        """The network alone, on batches in memory."""
        generator = self._model.objective.generator
        images = self.setup.batches[0]["image"]
        for _ in range(self.plan.peer_batches):
            generator(to_signed(images))  # pyright: ignore[reportCallIssue]
        return self.plan.peer_batches * len(images)

    def mflop(self) -> dict[str, float]:
        """Of both networks, forward, per image."""
        image = to_signed(self.setup.batches[0]["image"][:2])
        objective = self.setup.objective.eval()
        return {
            f"{name}_mflop_{self.name}": flops(lambda network=name: getattr(objective, network)(image)) / 2e6
            for name in ("generator", "discriminator")
        }
