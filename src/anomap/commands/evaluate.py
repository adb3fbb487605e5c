"""anomap-evaluate: score a test set with a trained detector, decide, report; the end of a training without the training."""

import functools
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from anomap.config import check_switches
from anomap.data.build import build_data
from anomap.data.settle import absolute_folders
from anomap.detection import checkpoint
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError
from anomap.evaluation import score_cache
from anomap.evaluation.cache_key import cache_path
from anomap.evaluation.files import write_files
from anomap.evaluation.measure import measure, score_test
from anomap.evaluation.other_data import evaluation_data
from anomap.evaluation.scored_set import ScoredSet
from anomap.evaluation.summary import print_summary
from anomap.runs.checkpoint_file import checkpoint_file, device_for
from anomap.runs.folder import RunFolder, write_metrics
from anomap.viewing.system_viewer import open_picture

log = logging.getLogger(__name__)


def command(config: dict[str, Any], folder: Path) -> None:
    """Evaluate, print the table, and show the worst mistakes if asked to."""
    print_summary(evaluate(config, folder), RunFolder(folder))
    if config["view"]:
        picture = RunFolder(folder).figures / "worst_mistakes.png"
        print(f"{'shown' if open_picture(picture) else 'no screen; see'} {picture}")


def evaluate(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Score and decide, write into `folder` what a training writes at its end, and return what `metrics.json` holds.

    `config` is `conf/evaluate.yaml`, resolved and plain; UserError if it, the checkpoint or the data is wrong.
    """
    if config["figures"] is None:
        many = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
        config = {**config, "figures": config["view"] or not many}
    check_switches(config, "view", "figures")
    if config["view"] and not config["figures"]:
        raise UserError("view=true needs the figures: leave figures=false out")
    path = checkpoint_file(config)
    detector, trained, facts = _load(path, path.stat().st_mtime_ns)
    detector.place(device_for(config["device"], path))
    if (share := config["data"].get("contamination")) not in (None, detector.contamination):
        raise UserError(
            f"data.contamination={share}: an evaluation calibrates nothing; give it to anomap-train or anomap-calibrate"
        )
    if not str(config["threshold"].get("strategy")).startswith("oracle"):
        detector.set_threshold(config["threshold"])  # refuses a wrong one before the scoring
    used = evaluation_data(trained["data"], absolute_folders(config["data"]))
    scored = _score(path, detector, used, config["figures"], own=used == absolute_folders(trained["data"]))
    threshold = detector.set_threshold(config["threshold"], scored.test)
    whole, run = {**trained, "data": used, "threshold": config["threshold"]}, RunFolder(folder)
    metrics = measure(detector, scored, threshold, whole, path, facts)
    write_files(detector, scored, metrics, whole, run, config["figures"])
    write_metrics(run.metrics, metrics)
    return metrics


@functools.lru_cache(maxsize=1)
def _load(path: Path, _changed: int) -> tuple[ScoringModel, dict[str, Any], dict[str, Any]]:
    """Detector, configuration and facts of the training; read once in a sweep, whose jobs set the thresholds anew."""
    detector, config = checkpoint.load_model(path)
    facts = checkpoint.read(path)[checkpoint.SECTION].get("trained", {})
    known: dict[str, Any] = {key: facts[key] for key in ("n_train", "epochs", "steps") if key in facts}
    if anew := config.get("calibration"):  # by anomap-calibrate
        known["calibration_source"] = anew["source"]
        log.info("%s: calibrated anew on %d images of %s, %s", path, anew["images"], anew["source"], anew["date"])
    return detector, config, known


def _score(path: Path, detector: ScoringModel, config: Mapping[str, Any], pictures: bool, own: bool) -> ScoredSet:
    """The scored test set, out of the cache if it is there; UserError if there is none."""
    data = build_data(config, stride=detector.objective.stride)
    try:
        found = data.layout.scan()
    except UserError as error:
        if not own:
            raise
        raise UserError(f"the data {path} was trained on is not here ({error}): give data.root=DIR") from error
    if not found.test:
        raise UserError(
            f"data.root={config.get('root')}: no test set there, so there is nothing to measure; give another data.root=DIR, "
            "or data.normal_dir=DIR data.abnormal_dir=DIR"
        )
    data.layout = test = replace(found, train=[])
    cache = cache_path(path, config, test)
    scored = score_cache.load(cache, pictures)
    if scored is not None:
        log.info("scores of %d images taken from %s", len(scored.names), cache)
        return scored
    data.setup()
    scored = score_test(detector, data)
    score_cache.save(cache, scored)
    return scored
