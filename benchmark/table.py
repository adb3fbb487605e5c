"""The results as Markdown: one table per subject, and the place in a document where they go."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomap.errors import UserError
from anomap.runs.folder import write_atomically
from benchmark.plan import ADVERSARIAL, COMMANDS, IMAGE_COUNTS, SIZES

BEGIN, END = "<!-- benchmark -->", "<!-- /benchmark -->"
Results = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A heading, the key with `{}` in place of the row's name, and how a number is written.

    Where the row's name has a `{}` itself, the column's key goes there instead.
    """

    heading: str
    key: str
    form: str

    def of(self, row: str) -> str:
        """The key of a cell."""
        return row.format(self.key) if "{}" in row else self.key.format(row)


@dataclass(frozen=True)
class Comparison:
    """Rows x columns of keys; rows and columns of which nothing was measured are left out, and so is an empty table."""

    title: str
    first: str
    rows: Sequence[tuple[str, str]]  # shown, in the key
    columns: Sequence[Column]

    def markdown(self, results: Results) -> str:
        """The table, or nothing."""

        def measured(column: Column, row: tuple[str, str]) -> bool:
            return results.get(column.of(row[1])) is not None

        rows = [row for row in self.rows if any(measured(column, row) for column in self.columns)]
        columns = [column for column in self.columns if any(measured(column, row) for row in rows)]
        if not rows:
            return ""
        lines = [
            f"| {self.first} | {' | '.join(column.heading for column in columns)} |",
            f"|---|{'---:|' * len(columns)}",
        ]
        for shown, name in rows:
            cells = [written(results.get(column.of(name)), column.form) for column in columns]
            lines.append(f"| {shown} | {' | '.join(cells)} |")
        return "\n".join([f"### {self.title}", "", *lines, ""])


def _methods() -> list[tuple[str, str]]:
    return [(f"`{method}`", method) for method in ADVERSARIAL]


RATE, RATIO, SHARE, PERCENT = "{:,.0f}", "{:.2f}", "{:.2f}", "{:.1%}"
_SMALL = ("`skip_cbam_sa_ganomaly`, 32 px, width 64, clean and augmented", "skip_cbam_sa_32px")
_PEERS = [
    ("anomalib's GANomaly", "anomalib_{}"),
    ("`model=ganomaly`, the same layer sizes", "{}_same_network"),
    ("`model=ganomaly`, anomap's default", "{}_default"),
]

TABLES = (
    Comparison(
        "Training",
        "`model=`",
        [*_methods(), _SMALL],
        [
            Column("images/s", "train_images_per_second_{}", RATE),
            Column("bare loop, images/s", "bare_train_images_per_second_{}", RATE),
            Column("bare / anomap", "framework_overhead_{}", RATIO),
            Column("MFLOP per image", "train_mflop_per_image_{}", RATE),
            Column("share of peak", "roofline_share_train_{}", SHARE),
        ],
    ),
    Comparison(
        "Beside anomalib: 64 px, batch 64",
        "",
        _PEERS,
        [
            Column("training, images/s", "train_images_per_second", RATE),
            Column("scoring from files, images/s", "score_images_per_second", RATE),
            Column("network alone, images/s", "bare_score_images_per_second", RATE),
            Column("AUROC on solar cells, same epochs", "auroc", "{:.3f}"),
            Column("same training time", "auroc_same_time", "{:.3f}"),
            Column("epochs in that time", "epochs_same_time", RATE),
            Column("MFLOP, generator", "generator_mflop", RATE),
            Column("discriminator", "discriminator_mflop", RATE),
        ],
    ),
    Comparison(
        "Scoring at each method's own image size",
        "`model=`",
        _methods(),
        [
            Column("batch 64, images/s", "score_eager_images_per_second_{}", RATE),
            Column("exported, images/s", "score_onnx_images_per_second_{}", RATE),
            Column("one image p50, ms", "score_eager_p50_ms_{}", "{:.1f}"),
            Column("p99", "score_eager_p99_ms_{}", "{:.1f}"),
            Column("exported p50, ms", "score_onnx_p50_ms_{}", "{:.1f}"),
            Column("p99", "score_onnx_p99_ms_{}", "{:.1f}"),
            Column("MFLOP per image", "score_mflop_per_image_{}", RATE),
            Column("share of peak", "roofline_share_score_{}", SHARE),
        ],
    ),
    Comparison(
        "Scoring against the image size, images/s",
        "pixels",
        [(str(side), str(side)) for side in SIZES],
        [
            Column("`ganomaly`", "score_images_per_second_ganomaly_{}px", RATE),
            Column("`attention_network`", "score_images_per_second_attention_network_{}px", RATE),
        ],
    ),
    Comparison(
        "Augmentation, batch 64 at 64 px, one mask per image",
        "",
        [
            ("hard", "hard_one_mask"),
            ("hard as it comes, one to three masks", "hard"),
            ("cutout", "cutout"),
            ("torchvision's RandomErasing", "torchvision_erasing"),
            ("kornia's RandomErasing", "kornia_erasing"),
        ],
        [Column("images/s", "{}_images_per_second", RATE)],
    ),
    Comparison(
        "Data",
        "",
        [
            ("anomap, first pass (threads)", "decode"),
            ("Pillow, 2 processes", "decode_pil"),
            ("torchvision, 2 processes", "decode_torchvision"),
            ("anomap, later epochs", "loader"),
        ],
        [Column("images/s", "{}_images_per_second", RATE)],
    ),
    Comparison(
        "Peak memory, MB",
        "images",
        [(f"{n:,}", f"{n // 1000}k") for n in IMAGE_COUNTS],
        [Column(f"`anomap-{command}`", f"{command}_rss_mb_{{}}", RATE) for command in ("train", "evaluate", "predict")],
    ),
    Comparison(
        "Start of a command, seconds",
        "",
        [(f"`anomap-{command}`", command) for command in COMMANDS],
        [Column("`--help`", "help_seconds_{}", RATIO), Column("imports", "import_seconds_{}", RATIO)],
    ),
)

_NUMBERS = (
    ("slowest against its bare loop (bare / anomap)", "framework_overhead_worst", RATIO),
    ("training against anomalib, same layer sizes", "train_speedup_vs_anomalib_same_network", RATIO),
    ("scoring against anomalib, same layer sizes", "score_speedup_vs_anomalib_same_network", RATIO),
    ("training against anomalib, anomap's default", "train_speedup_vs_anomalib_default", RATIO),
    ("scoring against anomalib, anomap's default", "score_speedup_vs_anomalib_default", RATIO),
    ("hard augmentation's share of a step", "augmentation_share_of_step", PERCENT),
    ("the loader's share of a step, later epochs", "loader_share_of_step", PERCENT),
    ("decoding against the better of Pillow and torchvision", "decode_against_best", RATIO),
    ("growth of memory, predict, 1,000 to 100,000 images", "predict_rss_growth_1k_to_100k", PERCENT),
    ("growth of memory, evaluate", "evaluate_rss_growth_1k_to_100k", PERCENT),
    ("growth of memory, train", "train_rss_growth_1k_to_100k", PERCENT),
    ("peak of the machine, GFLOP/s", "peak_gflops", RATE),
)


def written(value: Any, form: str) -> str:
    """A cell."""
    if value is None:
        return "–"
    return form.format(value) if isinstance(value, int | float) else str(value)


def markdown(results: Results) -> str:
    """All tables, with where and when they were made."""
    numbers = [
        f"| {name} | {written(results[key], form)} |" for name, key, form in _NUMBERS if results.get(key) is not None
    ]
    parts = [_provenance(results)]
    if numbers:
        parts.append("\n".join(["| | |", "|---|---:|", *numbers, ""]))
    parts += [text for table in TABLES if (text := table.markdown(results))]
    failed = [f"- {key.removesuffix('_error')}: {results[key]}" for key in results if key.endswith("_error")]
    if failed:
        parts.append("\n".join(["Not measured:", "", *failed, ""]))
    return "\n".join(parts)


def _provenance(results: Results) -> str:
    versions = ", ".join(
        f"{key.removeprefix('version_').replace('_', '-')} {value}"
        for key, value in results.items()
        if key.startswith("version_") and value is not None
    )
    kind = "`python scripts/benchmark.py quick=true`" if results.get("quick") else "`python scripts/benchmark.py`"
    return (
        f"{kind}, {str(results.get('date'))[:10]}, commit {results.get('git_commit') or 'unknown'}: {results.get('machine')}, "
        f"{results.get('threads')} threads, medians of {results.get('rounds')} interleaved rounds; {versions}.\n"
    )


def insert(document: Path, text: str) -> None:
    """Replace what stands between the two marks of a Markdown file.

    Raises:
        UserError: there is no such file, or it has no marks.
    """
    try:
        content = document.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"document={document}: cannot be read ({error.strerror}); give a Markdown file") from None
    between = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not between.search(content):
        raise UserError(f"document={document}: put the lines {BEGIN} and {END} where the tables go")
    write_atomically(document, between.sub(lambda _: f"{BEGIN}\n{text}\n{END}", content, count=1))
