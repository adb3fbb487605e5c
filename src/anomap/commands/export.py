"""anomap-export: a trained detector as one file, checked against its checkpoint before it is written."""

import importlib.util
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from anomap.config import check_choice
from anomap.data.build import build_datamodule
from anomap.data.files import find_images
from anomap.data.samples import Sample
from anomap.detection import export as exporting
from anomap.detection.checkpoint import load_model
from anomap.detection.detector import Images, Preprocessing
from anomap.detection.export import Parity, Run
from anomap.errors import UserError
from anomap.runs.checkpoint_file import checkpoint_file
from anomap.runs.folder import write_atomically

COUNT = 8  # images that a file is checked on
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

Item = TypeVar("Item")


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        suffix: of its name.
        write: (graph, what the file says of itself) -> content.
        run: content -> what it makes of images.
        use: how it is used, with the path in place of {}.
    """

    suffix: str
    write: Callable[[torch.export.ExportedProgram, Mapping[str, Any]], bytes]
    run: Callable[[bytes], Run]
    use: str


FORMATS = {
    "onnx": Format(".onnx", exporting.to_onnx, exporting.run_onnx, "anomap-predict {} input=DIR"),
    "exported_program": Format(
        ".pt2",
        exporting.to_exported_program,
        exporting.run_exported_program,
        'torch.export.load("{}").module()(images)  # uint8 (B, C, H, W) -> score, anomaly_map, is_anomaly',
    ),
}


@dataclass(frozen=True)
class Settings:
    """The keys of `conf/export.yaml`; `output` is where the file goes."""

    checkpoint: Path
    format: Format
    output: Path
    images: str | None
    tolerance: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Settings":
        """Check the values of a plain configuration, before any work. Raises UserError."""
        name, tolerance, output = config["format"], config["tolerance"], config["output"]
        check_choice("format", name, FORMATS)
        missing = [package for package in ONNX_PACKAGES if importlib.util.find_spec(package) is None]
        if name == "onnx" and missing:
            raise UserError(f'format=onnx: needs {", ".join(missing)}; pip install "anomap[onnx]"')
        if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 < tolerance < math.inf:
            raise UserError(f"tolerance={tolerance}: give a positive number, such as 1e-3")
        checkpoint, suffix = checkpoint_file(config), FORMATS[name].suffix
        path = checkpoint.with_suffix(suffix) if output is None else Path(output).expanduser()
        if path.suffix != suffix:
            raise UserError(f"output={output}: name it {suffix}, by which it is known later")
        if path.is_dir():
            raise UserError(f"output={path}: is a folder; give the name of a file, such as {path / f'last{suffix}'}")
        if not path.parent.is_dir():
            raise UserError(f"output={path}: there is no folder {path.parent}; make it, or give another output=FILE")
        if not os.access(path.parent, os.W_OK):
            raise UserError(f"output={path}: the folder cannot be written to; give another output=FILE")
        return cls(checkpoint, FORMATS[name], path, config["images"], float(tolerance))


@dataclass(frozen=True)
class ExportSummary:
    """What an export did.

    Attributes:
        path: the file.
        size: in bytes.
        images: what it was checked on, in words.
        parity: how far it is from the checkpoint.
        tolerance: how far it might have been.
        use: how the file is used.
    """

    path: Path
    size: int
    images: str
    parity: Parity
    tolerance: float
    use: str


def command(config: dict[str, Any], folder: Path) -> None:
    """Export, and say what was written and how it is used."""
    del folder  # the file lies beside the checkpoint, or where `output` says
    print_summary(export(config))


def export(config: dict[str, Any]) -> ExportSummary:
    """Write a checkpoint as a file of another kind, if that gives what the checkpoint gives.

    Args:
        config: `conf/export.yaml`, plain containers only.

    Raises:
        UserError: the checkpoint or the configuration is wrong, or the file does not give what the checkpoint gives; an
            earlier file of that name stays as it was.
    """
    settings = Settings.of(config)
    kind, output, tolerance = settings.format, settings.output, settings.tolerance
    model, trained = load_model(settings.checkpoint)
    preprocessing = exporting.preprocessing_of(model, trained)
    images, origin = probe_images(settings.images, trained["data"], preprocessing)
    content = kind.write(exporting.trace(model, preprocessing.channels), exporting.metadata(model, trained))
    parity = exporting.parity(model, kind.run(content), exporting.probes(images))
    if not parity.within(tolerance):
        raise UserError(
            f"{output}: not written, since it differs from the checkpoint: {_compared(parity, tolerance)} (on {origin}); "
            f"raise tolerance={tolerance:g} if that is good enough, or give another format"
        )
    try:
        write_atomically(output, content)
    except OSError as error:
        raise UserError(f"output={output}: cannot be written ({error.strerror}); give another output=FILE") from error
    return ExportSummary(output, len(content), origin, parity, tolerance, kind.use)


def probe_images(given: str | None, data: Mapping[str, Any], preprocessing: Preprocessing) -> tuple[Images, str]:
    """A few images (N, C, H, W) to check a file on, and what they are.

    Args:
        given: a folder, or None for test images of the run, or noise when they are gone.
        data: the run's `data` group.
        preprocessing: how images are read.

    Raises:
        UserError: no such folder, no image in it, or one that cannot be read.
    """
    if given is not None:
        folder = Path(given).expanduser()
        paths = [folder / name for name in _spread(find_images(folder))]
        if not paths:
            raise UserError(f"images={given}: no such folder, or no image in it; leave it out for the run's own")
        return np.stack([preprocessing.read(path) for path in paths]), f"{len(paths)} images of {given}"
    try:
        scan = build_datamodule(data).layout.scan()

        def read(sample: Sample) -> Images:
            if sample.path is not None:
                return preprocessing.read(sample.path)
            assert scan.pixels is not None
            return preprocessing.take(scan.pixels(sample))

        images = np.stack([read(sample) for sample in _spread(scan.test)])
    except UserError as error:
        noise = np.random.default_rng(0).integers(
            0, 255, (COUNT, preprocessing.channels, *preprocessing.size), np.uint8, endpoint=True
        )
        return noise, f"{COUNT} images of noise, since the run's are gone ({error}); images=DIR gives others"
    return images, f"{len(images)} of the run's test images"


def print_summary(summary: ExportSummary) -> None:
    """The last lines."""
    path = str(summary.path)
    # Hydra splits at =, unless the value is quoted
    argument = f"\"checkpoint='{path}'\"" if "=" in path else f"checkpoint={path}"
    for name, text in (
        ("exported", path),
        ("size", f"{summary.size / 1e6:.1f} MB"),
        ("checked on", f"{summary.images}, some at a time and at another size"),
        ("differences", _compared(summary.parity, summary.tolerance)),
        ("use", summary.use.format(path if summary.path.suffix == ".pt2" else argument)),
    ):
        print(f"{name:<12} {text}")


def _compared(parity: Parity, tolerance: float) -> str:
    """Both differences beside what is allowed."""
    if not parity.decided:
        return "its decisions are not those of its scores"
    return (
        f"scores {parity.score:.2g} of {tolerance * parity.score_unit:.2g} allowed, "
        f"maps {parity.anomaly_map:.2g} of {tolerance * parity.map_unit:.2g}"
    )


def _spread(items: Sequence[Item]) -> list[Item]:
    """At most `COUNT`, evenly from the first to the last: of a test set, normal and abnormal ones."""
    chosen = np.linspace(0, len(items) - 1, min(COUNT, len(items))).round().astype(int)
    return [items[index] for index in chosen]
