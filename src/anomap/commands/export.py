"""anomap-export: a trained detector as one file, checked against its checkpoint before it is written."""

import importlib.util
import math
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from anomap.config import check_choice
from anomap.detection import export as exporting
from anomap.detection.checkpoint import load_model
from anomap.detection.probe_images import probe_images
from anomap.errors import UserError
from anomap.runs.checkpoint_file import check_place, checkpoint_file
from anomap.runs.folder import write_atomically

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Format:
    """A kind of file."""

    suffix: str
    write: Callable[[torch.export.ExportedProgram, Mapping[str, Any]], bytes]  # graph, what the file says of itself
    run: Callable[[bytes], exporting.Run]
    use: str  # with its path and what its graph takes, or the argument for it
    tiled: str = ""  # what is to be known of one that sees tiles
    compared: str = ""  # and of one whose images anomap compares place by place


FORMATS = {
    "onnx": Format(".onnx", exporting.to_onnx, exporting.run_onnx, "anomap-predict {argument} input=DIR"),
    "exported_program": Format(
        ".pt2",
        exporting.to_exported_program,
        exporting.run_exported_program,
        'torch.export.load("{path}").module()({takes})  # uint8 (B, C, H, W) -> score, anomaly_map, is_anomaly',
        "; of tiles, some at a time: docs/data.md, Large photographs",
        "; the map alone, not compared place by place: docs/data.md, The same thing at the same place",
    ),
}


@dataclass(frozen=True)
class ExportSummary:
    """What an export did."""

    path: Path
    size: int  # bytes
    images: str  # that the file was checked on
    differences: str  # from the checkpoint
    use: str


def command(config: dict[str, Any], folder: Path) -> None:
    """Export, and say what was written and how it is used."""
    del folder  # the file lies beside the checkpoint, or where `output` says
    print_summary(export(config))


def export(config: dict[str, Any]) -> ExportSummary:
    """Write a checkpoint as a file of another kind; `config` is `conf/export.yaml`, plain.

    UserError for wrong input, or if the file does not give what the checkpoint gives; an earlier one then stays.
    """
    check_choice("format", config["format"], FORMATS)
    missing = [package for package in ONNX_PACKAGES if importlib.util.find_spec(package) is None]
    if config["format"] == "onnx" and missing:
        raise UserError(f'format=onnx: needs {", ".join(missing)}; pip install "anomap[onnx]"')
    tolerance, kind = config["tolerance"], FORMATS[config["format"]]
    if type(tolerance) not in (int, float) or not 0 < tolerance < math.inf:
        raise UserError(f"tolerance={tolerance}: give a positive number, such as 1e-3")
    checkpoint = checkpoint_file(config)
    output = output_file(config["output"], checkpoint, kind.suffix)
    model, trained = load_model(checkpoint)
    preprocessing = exporting.preprocessing_of(model, trained)
    images, origin = probe_images(config["images"], trained["data"], preprocessing)
    content = kind.write(exporting.trace(model, preprocessing.channels), exporting.metadata(model, trained))
    parity = exporting.parity(model, kind.run(content), exporting.probes(images))
    differences = _compared(parity, tolerance)
    if not parity.within(tolerance):
        raise UserError(
            f"{output}: not written, since it differs from the checkpoint: {differences} (on {origin}); "
            f"raise tolerance={tolerance:g} if that is good enough, or give another format"
        )
    try:
        write_atomically(output, content)
    except OSError as error:
        raise UserError(f"output={output}: cannot be written ({error.strerror}); give another output=FILE") from error
    takes = ", ".join(exporting.inputs(model.tiling))
    use = kind.use.format(path=output, takes=takes, argument=shlex.quote(f"checkpoint={output}"))
    use += (kind.tiled if model.tiling else "") + (kind.compared if model.places.known else "")
    return ExportSummary(output, len(content), origin, differences, use)


def output_file(given: str | None, checkpoint: Path, suffix: str) -> Path:
    """Where the file goes, checked before any work: beside the checkpoint unless another place is given."""
    path = checkpoint.with_suffix(suffix) if given is None else Path(os.path.expanduser(given))
    if path.suffix != suffix:
        raise UserError(f"output={given}: name it {suffix}, by which it is known later")
    if path.is_dir():
        raise UserError(f"output={path}: is a folder; give the name of a file, such as {path / f'last{suffix}'}")
    check_place(path)
    return path


def print_summary(summary: ExportSummary) -> None:
    """The last lines."""
    print(f"exported     {summary.path}\nsize         {summary.size / 1e6:.1f} MB")
    print(f"checked on   {summary.images}, some at a time and at another size")
    print(f"differences  {summary.differences}\nuse          {summary.use}")


def _compared(parity: exporting.Parity, tolerance: float) -> str:
    """Both differences beside what is allowed."""
    if not parity.decided:
        return "its decisions are not those of its scores"
    return (
        f"scores {parity.score:.2g} of {tolerance * parity.score_unit:.2g} allowed, "
        f"maps {parity.anomaly_map:.2g} of {tolerance * parity.map_unit:.2g}"
    )
