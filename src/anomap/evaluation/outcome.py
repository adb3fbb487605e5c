"""The end of a training: calibrate, test, and write what people and programs read."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anomap.config import AUTO, targets
from anomap.data.anomaly_data import AnomalyData
from anomap.detection import checkpoint
from anomap.detection.scoring import ScoringModel
from anomap.errors import optional
from anomap.evaluation.chosen import with_pictures
from anomap.evaluation.estimate import calibration_normals, estimate, wanted, write_estimate
from anomap.evaluation.files import write_files
from anomap.evaluation.measure import batches, measure, rate, score_test
from anomap.evaluation.pictures import write_pictures
from anomap.evaluation.suspects import pictures_of
from anomap.runs.folder import RunFolder, write_metrics
from anomap.runs.suspicious import write_suspicious
from anomap.training.loggers import close, log_results, make_loggers
from anomap.training.said import said
from anomap.training.suspicion import TrainingCheck
from anomap.training.train import Stage


def conclude(
    detector: ScoringModel,
    data: AnomalyData,
    config: dict[str, Any],
    run: RunFolder,
    stages: Sequence[Stage],
    controls: Callable[[], Mapping[str, Any]],
    check: TrainingCheck | None = None,
) -> dict[str, Any]:
    """End a training: calibrate, test, and write checkpoint, scores, figures, report, and last of all `metrics.json`.

    The detector is saved before anything that it does not need is tried. Controls, estimate, figures and report may fail,
    each with a line in the log. `controls` gives more for the metrics, which are returned; `check` says which training images
    stand out.
    """
    if places := data.learned_places():
        with said(f"places of {len(places)} training photographs"):
            detector.learn_places(places)
    normals = batches(data.calibration_dataloader(), detector)
    with said(f"scoring {len(data.calibration)} calibration images"):
        detector.calibrate(normals, trained_on=len(data.clean))
    scored = score_test(detector, data, pictures=False)
    threshold = detector.set_threshold(config["threshold"], scored.test)
    length = {"epochs": stages[-1].epochs, "steps": stages[-1].steps} if stages else {"epochs": 0, "steps": 0}
    trained = {"n_train": len(data.train), **length}
    section = {**checkpoint.section(detector, config), "trained": trained}
    # beside the state of the training, if there was one: the same file resumes and detects
    training = checkpoint.read(run.last_checkpoint) if run.last_checkpoint.is_file() else {}
    checkpoint.save(run.last_checkpoint, {**training, checkpoint.SECTION: section})

    seconds, images = sum(stage.seconds for stage in stages), sum(stage.images for stage in stages)
    rates = {"train_seconds": seconds, "train_images_per_second": rate(images, seconds)}
    metrics = measure(detector, scored, threshold, config, run.last_checkpoint, {**trained, **rates, **controls()})
    if check is not None:
        metrics |= {"n_suspicious": len(check.suspicious), "training_note": check.note(run.suspicious) or None}
        write_suspicious(run.suspicious, check.rows)
    estimated = None
    if wanted(config.get("estimate", AUTO), metrics["n_test_abnormal"]):
        with optional("estimate"):
            estimated = estimate(detector, data, [*targets(config["augmentation"])], config["seed"], config["figures"])
            metrics |= estimated.metrics(threshold.value)
    write_files(detector, scored, metrics, config, run, pictures=False)
    if estimated is not None:
        write_estimate(run.estimate, estimated, threshold.value)
    if config["figures"]:
        with optional("figures and report"):
            if estimated is None and not len(data.test):
                estimated = calibration_normals(detector, data, pictures=True)
            shown = None if check is None else pictures_of(check, detector, data)
            write_pictures(detector, with_pictures(scored, detector, data.test), metrics, config, run, estimated, shown)
    loggers = stages[-1].loggers if stages else make_loggers(config, run)  # a control is compared all the same
    log_results(loggers, run, metrics, length["steps"])
    close([*loggers, *(logger for stage in stages[:-1] for logger in stage.loggers)])
    write_metrics(run.metrics, metrics)
    return metrics
