"""python -m benchmark.detector_worker SPEC: one detector, of anomap or of anomalib, in a process of its own.

All detectors get the same training files, score the same test files, and have a threshold from the same held-out normals:
anomap its own, which keeps half of them for the scale of its parts, the others the same quantile of all.
"""

# pyright: reportMissingImports=false
# anomalib is in no environment but the benchmark's

import ctypes
import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from anomap.data.images import MAX_PIXELS
from anomap.data.layouts.folder import FolderLayout
from anomap.data.masks import read_masks
from anomap.data.resizing import resize_map
from anomap.data.samples import ABNORMAL
from anomap.detection.calibration import resolve_threshold
from anomap.memory import keep_memory, peak_rss
from benchmark.processes import Tasks, serve

if TYPE_CHECKING:
    from anomap.detection.detector import Detector

Found = tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]  # scores (B,), maps (B, H, W)
Predict = Callable[[Sequence[str]], Found]  # of files
BACKBONE, LAYERS = "tf_efficientnet_lite0", ("blocks.2", "blocks.4")  # the maps that anomap's local features come from
CORESET = 0.01  # of all features in PatchCore's memory: its default of 0.1 takes ten times as many steps, 38 minutes for 174 images
PADIM_FEATURES = 100  # of the 152 channels, drawn at random, as anomalib does for ResNet-18


def tasks(spec: dict[str, Any]) -> Tasks:
    """What it is told to do, by name."""
    worker = Worker(Anomap(spec) if spec["method"].startswith("anomap") else Anomalib(spec), spec)
    return {
        "fit": worker.fit,
        "score": worker.score,
        "single": worker.single,
        "test": worker.test,
        "export": worker.export,
    }


class Method(ABC):
    """What is measured.

    Args:
        spec: `method`, `root` (of the data set), `data` (its training images, parted), `side`, `batch`, `seed`, `output`.
    """

    threshold: float | None = None  # its own, if it sets one

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec

    @abstractmethod
    def fit(self) -> Path:
        """From files to a detector; the file that holds it."""

    @abstractmethod
    def predict(self, paths: Sequence[str]) -> Found:
        """Raw scores and maps of files, at once."""

    def export(self) -> tuple[Path, Predict]:
        """The detector as an ONNX file, and `predict` by that; NotImplementedError if there is no such way."""
        raise NotImplementedError(f"{self.spec['method']}: no export")


class Anomap(Method):
    """`anomap-train` with the controls, figures and checks that the others do not have switched off."""

    def fit(self) -> Path:
        from anomap.commands.train import train
        from anomap.detection.detector import Detector
        from benchmark.setup import train_config

        keep_memory()  # as its commands do
        spec, folder = self.spec, Path(self.spec["output"])
        config = train_config(
            *("data=folder", f"data.root={spec['data']}/all", f"model={spec['method'].partition(' ')[2]}"),
            *(f"data.image_size={spec['side']}", f"seed={spec['seed']}", "controls=false", "figures=false"),
            *("estimate=false", "data.check_training=false", "trainer.check_val_every_n_epoch=1000", "logger=none"),
        )
        train(config, folder)
        path = folder / "checkpoints" / "last.ckpt"
        self.detector = Detector.load(path)
        self.threshold = self.detector.threshold
        return path

    def predict(self, paths: Sequence[str]) -> Found:
        return self._found(self.detector, paths)

    def export(self) -> tuple[Path, Predict]:
        from anomap.commands.export import export
        from anomap.detection.detector import Detector
        from benchmark.setup import composed

        checkpoint = Path(self.spec["output"]) / "checkpoints" / "last.ckpt"
        path = export(composed("export", f"checkpoint={checkpoint}")).path
        return path, partial(self._found, Detector.load(path))

    @staticmethod
    def _found(detector: "Detector", paths: Sequence[str]) -> Found:
        found = detector.predict(list(paths))
        return np.array([one.score for one in found]), np.stack([one.anomaly_map for one in found])


class Anomalib(Method):
    """anomalib's own Engine, Folder data and model at its defaults, but for the backbone, whose weights are a package's."""

    def fit(self) -> Path:
        import lightning.pytorch as lightning
        from anomalib.data import Folder
        from anomalib.engine import Engine
        from anomalib.models import Padim, Patchcore

        from anomap.networks.encoder_weights import load_weights

        spec = self.spec
        _map_large()
        lightning.seed_everything(spec["seed"], workers=True)
        patchcore = spec["method"] == "PatchCore"
        kind, options = (
            (Patchcore, {"coreset_sampling_ratio": CORESET}) if patchcore else (Padim, {"n_features": PADIM_FEATURES})
        )
        self.pre_processor: Any = kind.configure_pre_processor(image_size=(spec["side"], spec["side"]))
        fixed = {"pre_processor": self.pre_processor, "post_processor": False, "visualizer": False, "evaluator": False}
        self.model: Any = kind(backbone=BACKBONE, layers=list(LAYERS), pre_trained=False, **options, **fixed)
        load_weights(self.model.model.feature_extractor.feature_extractor, BACKBONE, "package")
        root = Path(spec["data"])
        data = Folder(
            name="benchmark",
            root=root,
            normal_dir="train/good",
            normal_test_dir="calibration/good",  # scored by nobody: `predict` does that
            train_batch_size=spec["batch"],
            eval_batch_size=spec["batch"],
            num_workers=0,
            val_split_mode="none",
            test_split_mode="from_dir",
            seed=spec["seed"],
        )
        limits = {"max_epochs": 1, "limit_val_batches": 0}
        engine = Engine(accelerator="cpu", devices=1, logger=False, default_root_dir=spec["output"], **limits)
        engine.fit(self.model, data)
        self.model.eval()
        keep_memory()  # scoring gets anomap's setting too, with which PatchCore is about twice as fast as without
        path = Path(spec["output"]) / "model.pt"
        torch.save(self.model.model.state_dict(), path)
        return path

    @torch.inference_mode()
    def predict(self, paths: Sequence[str]) -> Found:
        # what its Engine does; the module itself resizes as an exported graph does, without smoothing
        found = self.model.model(self.pre_processor.transform(self._images(paths)))
        return found.pred_score.double().numpy().reshape(-1), found.anomaly_map[:, 0].numpy()

    def export(self) -> tuple[Path, Predict]:
        """By its own `to_onnx`, whose graph resizes and standardises too; in the same session as anomap's."""
        from anomap.detection.onnx_model import open_session

        path = Path(self.model.to_onnx(self.spec["output"], input_size=(self.spec["side"], self.spec["side"])))
        session = open_session(str(path))
        given, names = session.get_inputs()[0], [output.name for output in session.get_outputs()]
        count = given.shape[0]
        fixed = count if isinstance(count, int) else None  # PatchCore's graph takes two images, no more and no less

        def run(images: npt.NDArray[np.float32]) -> Found:
            missing = 0 if fixed is None else fixed - len(images)
            padded = np.concatenate([images, images[-1:].repeat(missing, 0)])
            found = dict(zip(names, session.run(None, {given.name: padded}), strict=True))
            scores, maps = found["pred_score"].astype(np.float64).reshape(-1), found["anomaly_map"][:, 0]
            return scores[: len(images)], maps[: len(images)]

        def predict(paths: Sequence[str]) -> Found:
            images = self.pre_processor.transform.transforms[0](self._images(paths)).numpy()  # the graph takes one size
            step = fixed or len(images)
            scores, maps = zip(
                *(run(images[start : start + step]) for start in range(0, len(images), step)), strict=True
            )
            return np.concatenate(scores), np.concatenate(maps)

        return path, predict

    @staticmethod
    def _images(paths: Sequence[str]) -> Any:
        from anomalib.data.utils import read_image

        return torch.stack([torch.as_tensor(read_image(path, as_tensor=True)) for path in paths])


def _map_large() -> None:
    """Give tensors of 1 MB and more back to the kernel when they are freed, as glibc does at first.

    Once it has learned to keep them, PatchCore's choice of its memory, which makes one of the same size in each step, fills 20 GB
    (glibc 2.36).
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(-3, 2**20)  # M_MMAP_THRESHOLD of malloc.h; setting it ends the learning


class Worker:
    """Times a method and measures what it finds."""

    def __init__(self, method: Method, spec: dict[str, Any]) -> None:
        self.method, self.spec = method, spec
        self.predict: Predict = method.predict
        self.data = Path(spec["data"])
        self.samples = FolderLayout(spec["root"]).scan().test

    def fit(self) -> dict[str, Any]:
        """Seconds from files to a detector with a threshold, its file, and the highest memory of the process."""
        began = time.perf_counter()
        path = self.method.fit()
        if (threshold := self.method.threshold) is None:
            normals = sorted(map(str, (self.data / "calibration" / "good").iterdir()))
            scores = np.concatenate([self.predict(part)[0] for part in self._parts(normals)])
            threshold = resolve_threshold({"strategy": "quantile", "quantile": 0.95}, scores).value
        self.threshold = threshold
        seconds = time.perf_counter() - began
        return {"fit_seconds": seconds, "file_mb": path.stat().st_size / 1e6, "fit_peak_mb": peak_rss() / 1e6}

    def export(self) -> dict[str, Any]:
        """From now on, score by an exported file; what it takes, and how far its scores lie from those before.

        None for a detector that cannot be exported, and why.
        """
        some = self._test()[: self.spec["batch"]]
        expected = self.predict(some)[0]
        try:
            path, predict = self.method.export()
            apart = float(np.abs(predict(some)[0] - expected).max() / max(expected.std(), 1e-12))
        except Exception as error:  # an exporter may fail in many ways; the other numbers stand
            return {
                "exported_mb": None,
                "exported_apart": None,
                "exported_note": f"{type(error).__name__}: {error}"[:500],
            }
        self.predict = predict
        files = [path, *path.parent.glob(f"{path.name}.data")]  # large weights may lie beside it
        return {"exported_mb": sum(file.stat().st_size for file in files) / 1e6, "exported_apart": apart}

    def score(self) -> dict[str, float]:
        """Images and seconds of scoring all test files in batches."""
        paths = self._test()
        began = time.perf_counter()
        for part in self._parts(paths):
            self.predict(part)
        return {"count": len(paths), "seconds": time.perf_counter() - began}

    def single(self, count: int) -> dict[str, float]:
        """Milliseconds of one file at a time: half of them take less, and 99 of 100."""
        times = []
        for path in self._test()[:count]:
            began = time.perf_counter()
            self.predict([path])
            times.append(1e3 * (time.perf_counter() - began))
        p50, p99 = np.percentile(times, [50, 99])
        return {"p50_ms": float(p50), "p99_ms": float(p99)}

    def test(self) -> dict[str, float | None]:
        """What scikit-learn makes of the raw scores and maps, maps at the size of the masks; AUPRO is anomap's."""
        from sklearn.metrics import average_precision_score, roc_auc_score

        from anomap.detection.pixel_metrics import AgainstMasks

        found = [self.predict(part) for part in self._parts(self._test())]
        scores, maps = (np.concatenate(column) for column in zip(*found, strict=True))
        labels = np.array([sample.label == ABNORMAL for sample in self.samples])
        masks = read_masks(self.samples, MAX_PIXELS)
        pixel: dict[str, float | None] = {"pixel_ap": None, "pixel_aupro": None}
        if masks is not None:
            known = [masks.of(sample) for sample in self.samples]
            against = AgainstMasks(known.__getitem__)
            against.update(list(range(len(known))), maps[:, None])
            pairs = [
                (mask.ravel(), resize_map(plane, mask.shape).ravel())
                for mask, plane in zip(known, maps, strict=True)
                if mask is not None
            ]
            truth, values = (np.concatenate(column) for column in zip(*pairs, strict=True))
            pixel = {
                "pixel_ap": float(average_precision_score(truth, values)),
                "pixel_aupro": against.compute()["pixel_aupro"],
            }
        alarms = scores > self.threshold
        return {
            "image_auroc": float(roc_auc_score(labels, scores)),
            **pixel,
            "caught": float(alarms[labels].mean()),
            "false_alarms": float(alarms[~labels].mean()),
            "peak_mb": peak_rss() / 1e6,
        }

    def _test(self) -> list[str]:
        return [str(sample.path) for sample in self.samples]

    def _parts(self, paths: Sequence[str]) -> list[Sequence[str]]:
        size = self.spec["batch"]
        return [paths[start : start + size] for start in range(0, len(paths), size)]


if __name__ == "__main__":
    serve(tasks)
