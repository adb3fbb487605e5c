"""The numbers of `metrics.json` as people read them: what each is called, and with how many digits."""

_NAMES = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1": "image F1",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_aupro": "AUPRO",
    "test_fpr": "false alarms",
    "test_tpr": "caught",
    "promised_fpr": "promised at most",
    "estimate_auroc": "estimated AUROC",
    "estimate_tpr": "estimated caught",
    "train_seconds": "training, s",
    "train_images_per_second": "trained, images/s",
    "score_images_per_second": "images/s",
    "score_mflop_per_image": "MFLOP",
}
_SHARES = ("_fpr", "_tpr")  # written in per cent
_AREAS = ("_auroc", "_ap", "_aupro", "_f1", "_auroc_low", "_auroc_high")


def name(metric: str) -> str:
    """`control_pca_auroc` as `control: pca`, and so on."""
    if is_control(metric):
        return f"control: {metric.removeprefix('control_').removesuffix('_auroc').replace('_', ' ')}"
    return _NAMES.get(metric, metric.replace("_", " ").replace("auroc", "AUROC"))


def is_control(metric: str) -> bool:
    """Whether it is the image AUROC of a trivial method on the same images."""
    return metric.startswith("control_") and metric.endswith("_auroc")


def is_rate(metric: str) -> bool:
    """Whether it lies in [0, 1]."""
    return metric.endswith((*_SHARES, *_AREAS))


def tick(metric: str, value: float) -> str:
    """A round number on an axis."""
    return f"{100 * value:.6g} %" if metric.endswith(_SHARES) else f"{value:.6g}"


def number(metric: str, *values: float) -> str:
    """`0.913 ± 0.003`, `3.7 ± 1.1 %`: a value, or a mean and its standard deviation."""
    if metric.endswith(_SHARES):
        return " ± ".join(f"{100 * value:.1f}" for value in values) + " %"
    if metric.endswith(_AREAS):
        return " ± ".join(f"{value:.3f}" for value in values)
    large = abs(values[0]) >= 100 or (values[0] == round(values[0]) and len(values) == 1)
    return " ± ".join(f"{value:,.0f}" if large and abs(value) >= 1 else f"{value:.3g}" for value in values)
