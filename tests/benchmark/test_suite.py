"""What becomes of the parts: keys, failures, and what a second start takes over. Nothing is measured here."""

import json
from pathlib import Path
from typing import Any

import pytest

from anomap.errors import UserError
from benchmark import augmentation, command, data, memory, overhead, peer, roofline, scoring, suite
from benchmark.command import benchmark, planned
from benchmark.plan import FULL, QUICK

MODULES = {
    "roofline": roofline,
    "overhead": overhead,
    "peer": peer,
    "augmentation": augmentation,
    "data": data,
    "scoring": scoring,
    "memory": memory,
}
PROMISED = (
    *("framework_overhead_worst", "framework_overhead_ganomaly", "framework_overhead_feature_adgan"),
    *("train_speedup_vs_anomalib_same_network", "score_speedup_vs_anomalib_same_network"),
    *("train_speedup_vs_anomalib_default", "score_speedup_vs_anomalib_default"),
    *("augmentation_share_of_step", "skip_cbam_sa_32px_train_images_per_second"),
    *("roofline_share_train_ganomaly", "roofline_share_train_adgan", "predict_rss_growth_1k_to_100k"),
)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every part gives the number of its turn for each of its keys; the parts that ran, in order."""
    ran: list[str] = []

    def fake(name: str) -> Any:
        def measure(plan: Any, *_: Any) -> dict[str, float]:
            ran.append(name)
            return {key: float(len(ran)) for key in MODULES[name].keys(plan)}

        return measure

    for name, module in MODULES.items():
        monkeypatch.setattr(module, "measure", fake(name))
    return ran


def config(**changes: Any) -> dict[str, Any]:
    return {"quick": True, "parts": None, "rounds": None, "seed": 0, "output": None, "document": None, **changes}


def written(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "benchmark.json").read_text())


def test_a_full_run_fills_every_promised_key_with_flat_values(measured: list[str], tmp_path: Path) -> None:
    benchmark(config(), tmp_path)
    found = written(tmp_path)
    assert measured == list(suite.PARTS)
    assert [key for key in PROMISED if not isinstance(found.get(key), float)] == []
    assert not [key for key, value in found.items() if isinstance(value, dict | list)]
    for key in ("machine", "threads", "date", "version_torch", "git_commit", "rounds", "quick"):
        assert key in found
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    assert "`model=ganomaly`" in (tmp_path / "benchmark.md").read_text()


def test_what_is_not_chosen_is_null(measured: list[str], tmp_path: Path) -> None:
    benchmark(config(parts=["data"]), tmp_path)
    found = written(tmp_path)
    assert measured == ["data"]
    assert found["decode_against_best"] == 1.0
    assert [found[key] for key in PROMISED] == [None] * len(PROMISED)


def test_the_first_part_may_write_into_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(plan: Any, log_file: Path) -> dict[str, float]:
        log_file.write_text("what the peer says")
        return {"auroc_default": 0.5}

    monkeypatch.setattr(MODULES["peer"], "measure", measure)
    benchmark(config(parts=["peer"]), tmp_path / "new")
    assert written(tmp_path / "new")["auroc_default"] == 0.5


def test_a_part_that_fails_is_a_line_and_the_others_are_kept(
    measured: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> dict[str, float]:
        raise UserError('anomalib is not installed: pip install "anomap[benchmark]"')

    def broken(*_: Any) -> dict[str, float]:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(peer, "measure", missing)
    monkeypatch.setattr(augmentation, "measure", broken)
    benchmark(config(), tmp_path)
    found = written(tmp_path)
    assert found["peer_error"].endswith('"anomap[benchmark]"')
    assert found["augmentation_error"] == "RuntimeError: two lines"
    assert found["train_speedup_vs_anomalib_default"] is None
    assert found["predict_rss_growth_1k_to_100k"] is not None
    assert "anomap[benchmark]" in (tmp_path / "benchmark.md").read_text()


def test_a_stop_loses_only_its_part_and_a_second_start_goes_on(
    measured: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = scoring.measure

    def stopped(*_: Any) -> dict[str, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(scoring, "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        benchmark(config(), tmp_path)
    assert written(tmp_path)["augmentation_share_of_step"] is not None
    before = list(measured)
    monkeypatch.setattr(scoring, "measure", working)
    benchmark(config(), tmp_path)
    assert measured[len(before) :] == ["scoring", "memory"]
    assert written(tmp_path)["framework_overhead_worst"] is not None


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"parts": ["speed"]}, "speed"), ({"rounds": 0}, "rounds=0"), ({"quick": "yes"}, "quick=yes")],
)
def test_wrong_values_are_told(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        benchmark(config(**changes), tmp_path)
    assert not (tmp_path / "benchmark.json").exists()


def test_a_damaged_file_of_an_earlier_start_is_told(tmp_path: Path) -> None:
    (tmp_path / "benchmark.json").write_text("{")
    with pytest.raises(UserError, match="not a JSON file"):
        benchmark(config(parts=[]), tmp_path)


def test_quick_measures_less_of_everything() -> None:
    quick, full = planned(config()), planned(config(quick=False))
    assert (quick, full) == (QUICK, FULL)
    assert full.full
    assert not quick.full
    assert full.rounds >= 5
    for name in ("rounds", "steps", "scored", "calls", "decoded", "peer_batches", "peer_epochs", "imports"):
        assert getattr(quick, name) < getattr(full, name)
    for name in ("methods", "sizes", "image_counts", "peer_loaders"):
        assert set(getattr(quick, name)) < set(getattr(full, name))
    assert planned(config(rounds=7)).rounds == 7


def test_freed_memory_is_kept_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[str] = []
    monkeypatch.setattr(command, "keep_memory", lambda: did.append("keep"))
    monkeypatch.setattr(command, "benchmark", lambda config, folder: did.append("measure"))
    monkeypatch.setattr(command, "markdown", str)
    monkeypatch.setattr("sys.argv", ["benchmark.py"])
    command.main()
    assert did == ["keep", "measure"], "its numbers would be half of what the commands reach"
