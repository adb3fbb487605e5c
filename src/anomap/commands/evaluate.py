"""anomap-evaluate: score a test set with a trained detector, decide, report; the end of a training without the training."""

import functools
import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from anomap.config import check_switches
from anomap.data.build import build_datamodule
from anomap.data.datamodule import AnomalyDataModule
from anomap.data.samples import Scan
from anomap.detection import checkpoint
from anomap.detection.devices import device_for
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError
from anomap.evaluation import score_cache
from anomap.evaluation.cache_key import cache_path
from anomap.evaluation.measure import measure, score_test
from anomap.evaluation.outcome import write_files
from anomap.evaluation.scored_set import ScoredSet
from anomap.evaluation.summary import print_summary
from anomap.runs.checkpoint_file import checkpoint_file
from anomap.runs.folder import RunFolder, write_metrics
from anomap.viewing.system_viewer import open_picture

log = logging.getLogger(__name__)

FIXED = ("image_size", "channels", "intensity_range")  # the weights know no other
_READING = frozenset(inspect.signature(AnomalyDataModule).parameters)


def command(config: dict[str, Any], folder: Path) -> None:
    """Evaluate, print the table, and show the worst mistakes if asked to."""
    run, figures = RunFolder(folder), config["figures"]
    if figures is None:
        many = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
        figures = config["view"] or not many
    metrics = evaluate({**config, "figures": figures}, folder)
    print_summary(metrics, run)
    if config["view"]:
        picture = run.figures / "worst_mistakes.png"
        print(f"{'shown' if open_picture(picture) else 'no screen; see'} {picture}")


def evaluate(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Score and decide, and write what a training writes at its end.

    Args:
        config: the whole configuration, plain containers only (`conf/evaluate.yaml`, resolved).
        folder: the run's folder.

    Returns:
        What `metrics.json` holds.

    Raises:
        UserError: the checkpoint, the data or the configuration is wrong.
    """
    check_switches(config, "view", *(["figures"] if config["figures"] is not None else []))
    if config["view"] and config["figures"] is False:
        raise UserError("view=true needs the figures: leave figures=false out")
    path = checkpoint_file(config)
    detector, trained, facts = _load(path, path.stat().st_mtime_ns)
    detector.place(device_for(config["device"], path))
    if not str(config["threshold"].get("strategy")).startswith("oracle"):
        detector.set_threshold(config["threshold"])  # a wrong one is told before the scoring
    used = evaluation_data(trained["data"], config["data"])
    pictures = config["figures"] is not False
    scored = _score(path, detector, used, pictures, own=used == trained["data"])
    threshold = detector.set_threshold(config["threshold"], scored.test)
    whole = {**trained, "data": used, "threshold": config["threshold"]}
    run = RunFolder(folder)
    metrics = measure(detector, scored, threshold, whole, path, facts)
    write_files(detector, scored, metrics, whole, run, pictures)
    write_metrics(run.metrics, metrics)
    return metrics


def evaluation_data(trained: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The `data` group to evaluate on: the checkpoint's, with what is given in its place.

    Args:
        trained: the checkpoint's `data` group.
        given: that of the command line. It has a `name` only when a layout was chosen (`data=folder`), whose options
            then replace all of the checkpoint's layout; None stands for the checkpoint's value.

    Raises:
        UserError: the images would be read otherwise than the detector has learned.
    """
    chosen = {key: value for key, value in given.items() if value is not None}
    for key in FIXED:
        if key in chosen and chosen[key] != trained.get(key):
            raise UserError(
                f"data.{key}={chosen[key]}: the checkpoint was trained with {trained.get(key)}, and its detector knows "
                f"nothing else; leave data.{key} out"
            )
    reading = {key: value for key, value in {**trained, **chosen}.items() if key in _READING}
    layout = {key: value for key, value in given.items() if key not in _READING}
    if "name" in given:
        return {**layout, **reading}
    layout = {key: value for key, value in layout.items() if value is not None}
    if layout.keys() & {"normal_dir", "abnormal_dir"}:
        return {"name": "folder", **layout, **reading}
    return {**trained, **layout, **reading}


@functools.lru_cache(maxsize=1)
def _load(path: Path, _changed: int) -> tuple[ScoringModel, dict[str, Any], dict[str, int]]:
    """Detector, configuration and facts of the training; read once in a sweep, whose jobs set the thresholds anew."""
    detector, config = checkpoint.load_model(path)
    facts = checkpoint.read(path)[checkpoint.SECTION].get("trained", {})
    return detector, config, {key: facts[key] for key in ("n_train", "epochs", "steps") if key in facts}


class _Found:
    """A layout that was scanned already, and is a test set only."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan

    def scan(self) -> Scan:
        return self._scan


def _score(path: Path, detector: ScoringModel, config: Mapping[str, Any], pictures: bool, own: bool) -> ScoredSet:
    """The scored test set, out of the cache if it is there."""
    data = build_datamodule(config, stride=detector.objective.stride)
    try:
        found = data.layout.scan()
    except UserError as error:
        if not own:
            raise
        raise UserError(f"the data {path} was trained on is not here ({error}): give data.root=DIR") from error
    data.layout = _Found(Scan([], found.test, found.pixels))
    cache = cache_path(path, config, data.layout.scan())
    scored = score_cache.load(cache, pictures)
    if scored is None:
        data.setup()
        scored = score_test(detector, data)
        score_cache.save(cache, scored)
    else:
        log.info("scores of %d images taken from %s", len(scored.names), cache)
    return scored
