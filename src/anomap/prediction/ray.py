"""anomap-predict engine=ray: many processes, on one machine or a cluster; Parquet files that are whole or not there.

Ray Data hands out shards of names. Each of its workers holds the detector, scores a shard as engine=local would, and
writes `scores/part-*.parquet`. What a shard is called follows from its names: scored twice, after a machine was lost,
it is there once.
"""

# pyright: reportMissingImports=false
# Ray is there where its extra is installed

import hashlib
import io
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from anomap.detection.detector import Detector
from anomap.errors import Stopped, UserError, signal_of
from anomap.memory import keep_memory
from anomap.prediction.folder import SHARDS, UNREADABLE, Outcome
from anomap.prediction.inputs import Inputs
from anomap.prediction.scoring import progress, scored
from anomap.prediction.table import GrowingTable, PredictionRow, parquet_table
from anomap.runs.folder import write_atomically
from anomap.runs.scores import ABNORMAL, escape_cell

_SMALLEST = ("workers", "cpus_per_worker", "shard_size")


def score(detector: Detector, inputs: Inputs, folder: Path, config: dict[str, Any]) -> Outcome:
    """Score what no shard holds yet.

    Args:
        detector: loaded once here, so that what is wrong with it is said before anything starts; each worker loads its own.
        inputs: what to score; workers on other machines must see the same folders.
        folder: of the results.
        config: `conf/predict.yaml`.

    Raises:
        UserError: Ray is not installed or cannot be reached, or a worker cannot write; what is written stays valid.
    """
    options = _checked(config["ray"])
    done = {row.path for row in rows(folder)}
    names = [name for name in inputs.names if _text(name) not in done]
    outcome = Outcome(folder, earlier=len(done))
    (folder / SHARDS).mkdir(exist_ok=True)
    if not names:
        return outcome
    start = time.perf_counter()
    with ExitStack() as stack:
        bar = stack.enter_context(progress())
        task = bar.add_task("scoring", total=len(names))
        try:
            stack.enter_context(_running(options))
            work = (str(inputs.root.resolve()), str(folder.resolve()), detector.threshold)
            failed: GrowingTable | None = None
            for told in _told(names, work, config, options):
                if told["failures"]:
                    failed = failed or stack.enter_context(GrowingTable(folder / UNREADABLE, ("path", "reason")))
                    failed.append(
                        [
                            (escape_cell(os.fsdecode(name)), escape_cell(why))
                            for name, why in map(_pair, told["failures"])
                        ]
                    )
                outcome = outcome.plus(told["scored"], told["abnormal"], len(told["failures"]))
                bar.update(task, completed=outcome.scored + outcome.unreadable)
        except (KeyboardInterrupt, Stopped) as error:
            outcome = replace(outcome, stopped=signal_of(error))
    return replace(outcome, seconds=time.perf_counter() - start)


def rows(folder: Path) -> Iterator[PredictionRow]:
    """All that was ever scored in the folder; names as Parquet holds them.

    Raises:
        UserError: a shard that anomap-predict did not write.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in sorted((folder / SHARDS).glob("part-*.parquet")):
        try:
            for batch in pq.ParquetFile(path).iter_batches():
                for row in batch.to_pylist():
                    yield PredictionRow(**row)
        except (OSError, pa.ArrowException, TypeError) as error:
            raise UserError(
                f"{path}: not as anomap-predict wrote it; delete it, and its images are scored again"
            ) from error


class Worker:
    """A process of Ray's that scores shards.

    Args:
        checkpoint: of the detector.
        device: where torch computes.
        root: the folder of the images.
        folder: of the results.
        threshold: of the decision.
        overlays: which to draw.
        batch_size: images scored at once.
    """

    def __init__(
        self, checkpoint: str, device: str, root: str, folder: str, threshold: float, overlays: str, batch_size: int
    ) -> None:
        keep_memory()
        self.detector = Detector.load(checkpoint, device)
        self.detector.threshold = threshold
        self.root, self.folder, self.overlays, self.batch_size = Path(root), Path(folder), overlays, batch_size

    def __call__(self, shard: Any) -> Any:
        """A table of `name`s -> a table of one row: `scored`, `abnormal`, `failures` (name, why), `problem` if it gave up."""
        import pyarrow as pa

        names = [os.fsdecode(name) for name in shard["name"].to_pylist()]
        found: list[PredictionRow] = []
        failures: list[dict[str, Any]] = []
        problem = None
        inputs = Inputs(self.root, names)
        try:
            for part, failed in scored(self.detector, inputs, names, self.folder, self.overlays, self.batch_size):
                found += part
                failures += [{"name": os.fsencode(name), "why": why} for name, why in failed]
            if found:
                write_shard(self.folder / SHARDS, found)
        except UserError as error:  # raised, it would be wrapped several times on its way
            problem = str(error)
        abnormal = sum(row.prediction == ABNORMAL for row in found)
        told = {"scored": len(found), "abnormal": abnormal, "failures": failures, "problem": problem}
        return pa.Table.from_pylist([told], _told_schema())


def _told_schema() -> Any:
    import pyarrow as pa

    pair = pa.struct([("name", pa.binary()), ("why", pa.string())])
    counts = [("scored", pa.int64()), ("abnormal", pa.int64())]
    return pa.schema([*counts, ("failures", pa.list_(pair)), ("problem", pa.string())])


def write_shard(folder: Path, found: Sequence[PredictionRow]) -> None:
    """Write rows as one Parquet file, whole or not at all, which is called after their names.

    Raises:
        UserError: the disk is full, or the folder cannot be written to.
    """
    import pyarrow.parquet as pq

    name = hashlib.blake2b("\0".join(row.path for row in found).encode("utf-8", "surrogateescape"), digest_size=12)
    content = io.BytesIO()
    pq.write_table(parquet_table(found), content)
    path = folder / f"part-{name.hexdigest()}.parquet"
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); make room and give output={folder.parent} to go on"
        ) from error


def _told(
    names: Sequence[str], work: tuple[str, str, float], config: dict[str, Any], options: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """What the workers tell of their shards, in the order in which they finish them."""
    import pyarrow as pa
    import ray

    size = options["shard_size"]
    shards = [
        pa.table({"name": pa.array([os.fsencode(name) for name in names[first : first + size]], pa.binary())})
        for first in range(0, len(names), size)
    ]
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_options.preserve_order = False
    root, folder, threshold = work
    there = ray.cluster_resources()
    for key, name in (("cpus_per_worker", "CPU"), ("gpus_per_worker", "GPU")):
        if options[key] > there.get(name, 0):  # Ray would wait for such a machine
            raise UserError(f"ray.{key}={options[key]}: Ray has {there.get(name, 0):g} here; give at most that")
    fitting = int(there["CPU"] // options["cpus_per_worker"])
    if options["gpus_per_worker"]:
        fitting = min(fitting, int(there["GPU"] // options["gpus_per_worker"]))
    workers = min(options["workers"] or fitting, fitting)
    told = ray.data.from_arrow(shards).map_batches(
        Worker,
        fn_constructor_args=(config["checkpoint"], config["device"], root, folder, threshold),
        fn_constructor_kwargs={"overlays": config["overlays"], "batch_size": config["batch_size"]},
        batch_size=None,  # one shard at a time
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(shards))),
        num_cpus=options["cpus_per_worker"],
        num_gpus=options["gpus_per_worker"],
    )
    for row in told.iter_rows():
        if row["problem"] is not None:
            raise UserError(row["problem"])
        yield row


@contextmanager
def _running(options: dict[str, Any]) -> Iterator[None]:
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
    own = options["address"] is None
    cores = (options["workers"] or 0) * options["cpus_per_worker"]
    obeyed = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address="local" if own else options["address"],
            num_cpus=cores or None if own else None,
            include_dashboard=False if own else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"ray.address={options['address']}: {str(error).splitlines()[0]}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, obeyed)  # Ray has taken it, and would end the command at once
    try:
        yield
    finally:
        ray.shutdown()


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    for key in _SMALLEST:
        value = options[key]
        if not (key == "workers" and value is None) and (
            not isinstance(value, int) or isinstance(value, bool) or value < 1
        ):
            raise UserError(f"ray.{key}={value}: give a whole number of at least 1")
    gpus = options["gpus_per_worker"]
    if isinstance(gpus, bool) or not isinstance(gpus, int | float) or gpus < 0:
        raise UserError(f"ray.gpus_per_worker={gpus}: give a number, such as 1, or 0.5 for two workers on a GPU")
    return options


def _text(name: str) -> str:
    """A name as Parquet holds it: bytes that are no UTF-8 as backslash escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _pair(failure: dict[str, Any]) -> tuple[bytes, str]:
    return failure["name"], failure["why"]
