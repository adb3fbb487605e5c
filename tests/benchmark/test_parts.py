"""The instruments themselves: what they count, and that the smallest of them run."""

import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from anomap.data.build import build_data
from anomap.detection.operations import flops
from anomap.errors import UserError
from benchmark import command, roofline, suite
from benchmark.generated import write_data_set, write_images
from benchmark.machine import describe
from benchmark.memory import peak_of
from benchmark.overhead import BothPasses
from benchmark.peer import Ours, Worker, same_files
from benchmark.plan import QUICK
from benchmark.processes import environment
from benchmark.setup import bare_loop, prepare
from tests import tiny

OPTIMIZER = {"lr_generator": 1e-3, "lr_discriminator": 1e-3, "algorithm": {"_target_": "torch.optim.Adam"}}


def test_a_multiply_add_is_two_operations() -> None:
    assert flops(lambda: torch.rand(4, 5) @ torch.rand(5, 6)) == 2 * 4 * 5 * 6
    convolution = torch.nn.Conv2d(2, 3, 3, padding=1)
    assert flops(lambda: convolution(torch.rand(1, 2, 8, 8))) == 2 * 2 * 3 * 9 * 64


@pytest.mark.thorough
def test_the_limit_counts_the_operations_that_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "_MATRICES", (64,))
    monkeypatch.setattr(roofline, "_CONVOLUTIONS", ())
    case, product = roofline.limit(), 2 * 64**3
    with FlopCounterMode(display=False) as counter:
        counted = case()
    assert counter.get_total_flops() >= product
    assert counted == pytest.approx(counter.get_total_flops() / 1e9)


def test_a_training_step_costs_about_three_times_its_forward_pass() -> None:
    method = tiny.objective("skip_ganomaly")
    batch = tiny.batch()
    forward = flops(lambda: (method.generator(batch["image"]), method.discriminator(batch["image"])))
    generator = flops(lambda: method.generator(batch["image"]))
    step = flops(bare_loop(method, [dict(batch)], OPTIMIZER))
    assert 3 * generator < step < 8 * forward


def test_the_bare_loop_trains_both_networks_and_leaves_both_trainable() -> None:
    method = tiny.objective("attention_network")
    before = [parameter.clone() for parameter in method.parameters()]
    batches = [dict(tiny.batch(seed=seed)) for seed in range(2)]
    assert bare_loop(method, batches, OPTIMIZER)() == sum(len(batch["image"]) for batch in batches)
    moved = [not torch.equal(a, b) for a, b in zip(before, method.parameters(), strict=True)]
    networks = [name for name, _ in method.named_parameters()]
    for network in ("generator", "discriminator"):
        assert any(changed for name, changed in zip(networks, moved, strict=True) if name.startswith(network))
    assert all(parameter.requires_grad for parameter in method.parameters())


def test_both_passes_reconstruct_the_clean_image_from_both() -> None:
    method = BothPasses.of(tiny.objective("skip_ganomaly"))
    batch = tiny.batch()
    step = method.generate(batch)
    assert len(step["x̂"]) == 2 * len(step["x"])
    torch.testing.assert_close(step["x"], batch["image"] * 2 - 1)
    assert torch.isfinite(method.generator_losses(step)["loss"])


def test_generated_files_all_differ_and_come_again_with_the_same_seed(tmp_path: Path) -> None:
    def pixels(folder: Path, first: int = 0) -> list[bytes]:
        files = sorted(write_images(folder, 40, 16, seed=1, first=first).iterdir())
        return [np.asarray(Image.open(file)).tobytes() for file in files]

    one = pixels(tmp_path / "one")
    assert len(set(one)) == 40
    assert pixels(tmp_path / "two") == one
    assert not set(one) & set(pixels(tmp_path / "three", first=40))


def test_generated_data_is_a_data_set_of_anomap(tmp_path: Path) -> None:
    root = write_data_set(tmp_path, 20, 3, 32)
    data = build_data({**tiny.config()["data"], "root": str(root)})
    data.setup()
    assert len(data.train) + len(data.calibration) == 20
    assert data.counts()["n_test_normal"] == data.counts()["n_test_abnormal"] == 3


def test_a_setup_trains_through_the_framework_as_many_images_as_its_batches_hold(tmp_path: Path) -> None:
    thin = [f"model.objective.{network}.width=8" for network in ("generator", "discriminator")]
    setup = prepare(
        2, tmp_path, "model=ganomaly", "data.image_size=32", "data.batch_size=4", "logger=none", *thin, seed=3
    )
    assert [len(batch["image"]) for batch in setup.batches] == [4, 4]
    done = setup.framework(tmp_path / "run")
    assert done.count == 8
    assert done.seconds > 0


def test_the_machine_is_described_in_plain_values() -> None:
    found = describe()
    assert found["threads"] == torch.get_num_threads()
    assert all(value is None or isinstance(value, str | int | float) for value in found.values())
    assert found["machine"]


def test_other_processes_import_the_anomap_that_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    import anomap

    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    first, *rest = environment()["PYTHONPATH"].split(":")
    assert Path(first) / "anomap" == Path(anomap.__file__).parent
    assert Path(rest[0]) / "benchmark" / "command.py" == Path(command.__file__)
    assert rest[1:] == ["elsewhere"]


def test_a_command_that_fails_is_told_by_its_own_last_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"anomap-predict failed.*checkpoint is not set"):
        peak_of("predict", [f"hydra.run.dir={tmp_path}/run"], tmp_path)


@pytest.mark.slow
def test_the_smallest_real_run(tmp_path: Path) -> None:
    plan: Any = dataclasses.replace(
        *(QUICK,),
        rounds=1,
        steps=1,
        methods=("ganomaly",),
        sizes=(32,),
        scored=4,
        calls=3,
        decoded=8,
    )
    results = suite.run(plan, ["roofline", "overhead", "augmentation", "data", "scoring"], tmp_path, {})
    assert [key for key in results if key.endswith("_error")] == []
    for key in ("framework_overhead_worst", "augmentation_share_of_step", "roofline_share_train_ganomaly"):
        assert results[key] > 0
    assert results["roofline_share_train_ganomaly"] < 1.5
    assert results["score_eager_p50_ms_ganomaly"] <= results["score_eager_p99_ms_ganomaly"]
    assert results["score_onnx_images_per_second_ganomaly"] > 0
    assert "scoring_note" not in results
    assert results["train_mflop_per_image_ganomaly"] > 3 * results["score_mflop_per_image_ganomaly"]
    assert sys.modules.get("anomalib") is None


@pytest.mark.slow
def test_the_peer_trains_scores_and_starts_anew(tmp_path: Path) -> None:
    if importlib.util.find_spec("anomalib") is None:
        pytest.skip("needs anomalib")
    for name, first in (("train", 0), ("test_normal", 100), ("test_abnormal", 200)):
        write_images(tmp_path / name, 8, 64, first=first)
    folders = {name: str(tmp_path / name) for name in ("train", "test_normal", "test_abnormal")}
    numbers = {"side": 64, "batch": 4, "threads": 1, "seed": 0, "workers": 0}
    with Worker({**folders, **numbers, "output": str(tmp_path / "out")}, tmp_path / "spec", tmp_path / "log") as peer:
        assert peer.ask("facts")["generator_mflop"] > 0
        fresh = peer.ask("auroc", epochs=1)
        assert peer.time("bare_score", batches=1).count == 4
        assert peer.time("train", batches=2).count == 8
        assert peer.time("bare_train", batches=1, channels_last=True).count == 4
        scored = peer.ask("score", batches=None)
        assert sorted(scored["labels"]) == [0] * 8 + [1] * 8
        assert len(set(scored["scores"])) > 1
        assert peer.ask("auroc", epochs=1) == fresh
        with pytest.raises(UserError, match="anomalib failed"):
            peer.ask("nonsense")


@pytest.mark.slow
@pytest.mark.elpv
def test_anomap_beside_the_peer_scores_the_files_that_the_peer_scores(tmp_path: Path) -> None:
    if importlib.util.find_spec("elpv_dataset") is None:
        pytest.skip("needs elpv-dataset")
    thin = [f"model.objective.{network}.width=8" for network in ("generator", "discriminator")]
    ours = Ours("default", ["data.cells=mono", *thin], dataclasses.replace(QUICK, peer_batches=1), tmp_path)
    root = same_files(ours.setup, tmp_path / "files")
    data = ours.setup.data
    assert len(list((root / "train").iterdir())) == len(data.train)
    tested = sum(len(list((root / name).iterdir())) for name in ("test_normal", "test_abnormal"))
    assert tested == len(data.test)
    assert 0 < (ours.train_and_test(1) or 0) < 1
    ours.prepare_scoring(root)
    done = [ours.score() for _ in range(2)]  # the second scores anew, too
    assert [timed.count for timed in done] == [min(tested, ours.scored)] * 2
    assert ours.bare_score() > 0
    assert ours.mflop()["generator_mflop_default"] > ours.mflop()["discriminator_mflop_default"] > 0
