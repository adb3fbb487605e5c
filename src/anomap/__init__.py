"""anomap: visual anomaly detection learned from normal images only.

>>> from anomap import Detector
>>> prediction = Detector.load("last.ckpt").predict("part.png")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomap.detection.detector import Detector, Prediction

__version__ = "0.2.0"
__all__ = ["Detector", "Prediction", "__version__"]


def __getattr__(name: str) -> Any:
    """`Detector` and `Prediction` are imported only when asked for: `--help` stays quick."""
    if name in ("Detector", "Prediction"):
        from anomap.detection import detector

        return getattr(detector, name)
    raise AttributeError(f"module 'anomap' has no attribute {name!r}")
