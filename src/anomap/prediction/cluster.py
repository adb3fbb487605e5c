"""anomap-predict engine=ray: many processes, on one machine or a cluster.

Ray Data hands out shards of names. Each of its workers holds the detector, scores a shard as engine=local would, and
writes it as one part. A part is called after its names: scored twice, after a machine was lost, it is there once.
"""

# pyright: reportMissingImports=false
# Ray is there where its extra is installed

import json
import logging
import os
import signal
import threading
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from anomap.detection.detector import Detector
from anomap.errors import UserError
from anomap.memory import keep_memory
from anomap.prediction.inputs import Inputs
from anomap.prediction.scoring import Failures, score_files
from anomap.prediction.settings import RaySettings, Settings
from anomap.prediction.table import PredictionRow, write_part
from anomap.runs.checkpoint_file import device_for
from anomap.runs.scores import ABNORMAL


def score(
    detector: Detector, inputs: Inputs, names: Collection[str], folder: Path, settings: Settings
) -> Generator[tuple[int, int, Failures], None, None]:
    """Score images with Ray's workers, which write the parts. Machines of a cluster must see the same folders.

    Yields what `scoring.score` does, after each shard. UserError if Ray is not installed or cannot be reached, or a worker
    cannot write; what is written stays valid.
    """
    there, source = replace(settings, checkpoint=settings.checkpoint.resolve()), iter(names)
    cut = iter(lambda: list(islice(source, settings.ray.shard_size)), [])
    with _running(settings.ray):
        import pyarrow as pa
        import ray

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.execution_options.preserve_order = False
        shards = [pa.table({"names": [json.dumps(shard)]}) for shard in cut]
        results = ray.data.from_arrow(shards).map_batches(
            Worker,
            fn_constructor_args=(there, inputs.root.resolve(), folder.resolve(), detector.threshold),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(_workers(settings.ray), len(shards))),
            num_cpus=settings.ray.cpus_per_worker,
            num_gpus=settings.ray.gpus_per_worker,
        )
        for row in results.iter_rows():
            scored, abnormal, failures, problem = json.loads(row["told"])
            if problem is not None:
                raise UserError(problem)
            yield scored, abnormal, failures


class Worker:
    """A process of Ray's that scores shards of the images in `root`, with results in `folder`; all paths are absolute."""

    def __init__(self, settings: Settings, root: Path, folder: Path, threshold: float) -> None:
        keep_memory()
        self.detector = Detector.load(settings.checkpoint, device_for(settings.device, settings.checkpoint))
        self.detector.threshold = threshold
        self.settings, self.root, self.folder = settings, root, folder

    def __call__(self, shard: Any) -> Any:
        """A table of one cell `names` -> one cell `told`: images scored, abnormal ones, `Failures`, the problem if it gave up.

        Both are JSON, which keeps bytes of a name that are not UTF-8.
        """
        import pyarrow as pa

        names: list[str] = json.loads(shard["names"][0].as_py())
        found: list[PredictionRow] = []
        failures: Failures = []
        problem = None
        try:
            for rows, failed in score_files(self.detector, Inputs(self.root, names), names, self.folder, self.settings):
                found += rows
                failures += failed
            write_part(self.folder, names, found)
        except UserError as error:  # raised, it would be wrapped several times on its way
            problem = str(error)
        told = len(found), sum(row.prediction == ABNORMAL for row in found), failures, problem
        return pa.table({"told": [json.dumps(told)]})


def _workers(settings: RaySettings) -> int:
    """How many workers there is room for, at most as many as are asked for."""
    import ray

    there, room = ray.cluster_resources(), []
    for name, needed in (("CPU", settings.cpus_per_worker), ("GPU", settings.gpus_per_worker)):
        if needed > there.get(name, 0):  # Ray would wait for such a machine
            key = f"ray.{name.lower()}s_per_worker"
            raise UserError(f"{key}={needed}: Ray has {there.get(name, 0):g} here; give at most that")
        if needed:
            room.append(int(there[name] // needed))
    return min(settings.workers or room[0], *room)


@contextmanager
def _running(settings: RaySettings) -> Iterator[None]:
    """Ray, of this machine or of a cluster, quiet, and left as it was found."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report its use over the network
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else it warns of its own ways on standard error
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError('engine=ray: needs Ray; pip install "anomap[ray]"') from error
    if ray.is_initialized():
        yield
        return
    for name in ("ray", "ray.data"):  # the second has a level of its own
        logging.getLogger(name).setLevel(logging.ERROR)
    place: dict[str, Any] = {"address": settings.address}
    if settings.address is None:
        cores = (settings.workers or 0) * settings.cpus_per_worker
        place = {"address": "local", "num_cpus": cores or None, "include_dashboard": False}
    obeyed = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**place, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"ray.address={settings.address}: {str(error).splitlines()[0]}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, obeyed)  # Ray has taken it, and would end the command at once
    try:
        yield
    finally:
        ray.shutdown()
