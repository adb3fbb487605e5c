"""The two toggled steps, the averaged weights, the schedule, and what happens when a loss is no number."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from anomap.detection.checkpoint import read
from anomap.errors import UserError
from anomap.objectives.adgan import ADGAN
from anomap.objectives.base import AdversarialObjective, Losses, Step
from anomap.runs.folder import RunFolder
from anomap.training import steps
from anomap.training.ema import MovingAverage
from anomap.training.module import AdversarialTraining, TrainingDiverged
from anomap.training.train import train_stage
from tests import tiny

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in ("Found .* in eval mode", ".*LeafSpec", ".*no .val_dataloader.")
]


class Batches(pl.LightningDataModule):
    """Three training batches, ready-made; optionally the third holds a pixel that is no number in a given epoch."""

    def __init__(self, bad_epoch: int | None = None) -> None:
        super().__init__()
        self.bad_epoch = bad_epoch

    def train_dataloader(self) -> Any:
        def batches() -> Iterator[Any]:
            for seed in range(3):
                yield dict(tiny.batch(4, seed=seed))

        return DataLoader(list(batches()), batch_size=None)  # pyright: ignore[reportArgumentType]

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        batch = {key: value.clone() for key, value in batch.items()}
        assert self.trainer is not None
        if self.trainer.current_epoch == self.bad_epoch and torch.equal(batch["image"], tiny.batch(4, seed=2)["image"]):
            batch["image"][0, 0, 0, 0] = torch.nan
        return batch


@pytest.fixture(autouse=True)
def ready_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """`train_stage` hands Lightning what it is given: `Batches` is no `AnomalyData`."""
    monkeypatch.setattr("anomap.training.train.AnomalyDataModule", lambda data: data)


def module(method: AdversarialObjective, **options: Any) -> AdversarialTraining:
    defaults: dict[str, Any] = {
        "lr_generator": 1e-3,
        "lr_discriminator": 1e-3,
        "schedule": "constant",
        "ema_decay": 0.9,
    }
    return AdversarialTraining(method, **{**defaults, **options})


def train(training: AdversarialTraining, folder: Path, epochs: int = 1, callbacks: Any = ()) -> pl.Trainer:
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
    )
    trainer.fit(training, Batches())
    return trainer


def copied(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


def same(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


class Steps:
    """Looks at both networks around each optimiser step."""

    def __init__(self, method: AdversarialObjective) -> None:
        self.nets = {"generator": method.generator, "discriminator": method.discriminator}
        self.moved: list[tuple[str, str]] = []
        self.graded: list[tuple[str, str]] = []

    def watch(self, owner: str, step: Any) -> Any:
        def stepped(*args: Any, **kwargs: Any) -> Any:
            before = {name: weights(net) for name, net in self.nets.items()}
            for name, net in self.nets.items():
                if any(p.requires_grad and p.grad is not None and p.grad.any() for p in net.parameters()):
                    self.graded.append((owner, name))
            result = step(*args, **kwargs)
            self.moved += [(owner, name) for name, net in self.nets.items() if not same(before[name], weights(net))]
            return result

        return stepped


@pytest.mark.parametrize("model", tiny.TRAINED)
def test_each_step_moves_its_own_network_only(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = tiny.objective(model)
    tiny.fitted(method)
    training, looks = module(method), Steps(method)
    calls: list[str] = []
    descend = training._descend

    def watched(optimizer: Any, loss: Tensor) -> None:
        net = "generator" if optimizer is training.optimizers()[0] else "discriminator"  # pyright: ignore
        calls.append(net)
        other = looks.nets["discriminator" if net == "generator" else "generator"]
        held = [p.grad if p.grad is None else p.grad.clone() for p in other.parameters()]
        looks.watch(net, descend)(optimizer, loss)
        for parameter, grad in zip(other.parameters(), held, strict=True):  # it collected no gradient either
            assert (parameter.grad is None) == (grad is None)
            assert grad is None or torch.equal(parameter.grad, grad)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(training, "_descend", watched)
    train(training, tmp_path)
    assert calls == ["discriminator", "generator"] * 3
    assert looks.moved == [(name, name) for name in calls]
    assert all(p.requires_grad for net in looks.nets.values() for p in net.parameters())


def test_the_discriminator_gets_no_gradient_through_the_fake() -> None:
    """Its loss is computed on a detached step: no path leads back to the generator."""
    for model in tiny.TRAINED:
        method = tiny.objective(model)
        tiny.fitted(method)
        step = method.generate(tiny.batch(4))
        method.discriminator_losses(step.detached())["loss"].backward()
        assert all(parameter.grad is None for parameter in method.generator.parameters())
        assert any(parameter.grad is not None for parameter in method.discriminator.parameters())


@pytest.mark.parametrize("model", tiny.TRAINED)
def test_the_fake_is_made_once_per_step(model: str, tmp_path: Path) -> None:
    method = tiny.objective(model)
    tiny.fitted(method)
    training = module(method)
    calls: list[int] = []
    method.generator.register_forward_hook(lambda *_: calls.append(1))
    train(training, tmp_path)
    assert len(calls) == 3


@pytest.mark.thorough
@pytest.mark.parametrize("model", tiny.TRAINED)
def test_the_optimisers_share_nothing_and_miss_nothing(model: str, tmp_path: Path) -> None:
    method = tiny.objective(model)
    tiny.fitted(method)
    training = module(method)
    trainer = train(training, tmp_path)
    sets = [{id(p) for group in optimizer.param_groups for p in group["params"]} for optimizer in trainer.optimizers]
    assert len(sets) == 2
    assert not sets[0] & sets[1]
    assert sets[0] | sets[1] == {id(p) for p in training.parameters() if p.requires_grad}
    assert {id(p) for p in method.generator.parameters()} == sets[0]


def test_a_frozen_stage_1_stays_bit_for_bit(tmp_path: Path) -> None:
    method: ADGAN = tiny.objective("adgan")
    with torch.no_grad():  # statistics that a pass in training mode would move
        for norm in method.stage1.modules():
            if isinstance(norm, nn.BatchNorm2d):
                assert norm.running_mean is not None
                norm.running_mean.fill_(0.3)
    before, stage2 = copied(method.stage1), copied(method.generator)
    method.train()
    assert not any(part.training for part in method.stage1.modules())
    training = module(method)
    train(training, tmp_path, epochs=2)
    assert same(before, copied(method.stage1))
    assert not same(stage2, copied(method.generator))
    assert all(parameter.grad is None for parameter in method.stage1.parameters())
    assert not any(part.training for part in method.stage1.modules())


# --- averaged weights ---


def test_moving_average_known_answer() -> None:
    method = tiny.objective("ganomaly")
    average = MovingAverage(method, decay=0.5)
    assert isinstance(average.objective, AdversarialObjective)
    copy = dict(average.objective.generator.named_parameters())
    expected = {name: p.detach().clone() for name, p in method.generator.named_parameters()}
    for update in range(1, 8):
        with torch.no_grad():
            for parameter in method.generator.parameters():
                parameter.add_(torch.randn_like(parameter))
        average.update()
        decay = min(0.5, (1 + update) / (10 + update))
        for name, parameter in method.generator.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach()
    for name, value in expected.items():
        torch.testing.assert_close(copy[name].detach(), value, rtol=1e-5, atol=1e-5)
    assert int(average.updates) == 7


def test_a_decay_of_0_is_a_copy() -> None:
    method = tiny.objective("ganomaly")
    average = MovingAverage(method, decay=0.0)
    with torch.no_grad():
        for tensor in method.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(1.5)
    average.update()
    for (name, a), b in zip(average.objective.state_dict().items(), method.state_dict().values(), strict=True):
        if a.is_floating_point():
            torch.testing.assert_close(a, b, msg=name)


def test_the_average_is_its_own_and_never_trains() -> None:
    method = tiny.objective("attention_network")
    average = MovingAverage(method, 0.9)
    average.train()
    assert not any(part.training for part in average.modules())
    assert not any(parameter.requires_grad for parameter in average.parameters())
    own = {tensor.data_ptr() for tensor in average.objective.state_dict().values() if tensor.numel()}
    assert not own & {tensor.data_ptr() for tensor in method.state_dict().values() if tensor.numel()}


def test_frozen_parts_are_shared_not_copied() -> None:
    method = tiny.objective("adgan")
    average = MovingAverage(method, 0.9).objective
    assert isinstance(average, ADGAN)
    assert average.stage1 is method.stage1
    assert average.generator is not method.generator


def test_the_count_of_updates_survives_a_checkpoint() -> None:
    method = tiny.objective("ganomaly")
    first, second = MovingAverage(method, 0.999), MovingAverage(method, 0.999)
    for _ in range(5):
        first.update()
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(1.0)
    first.update()
    second.update()
    assert same(copied(first), copied(second))


def test_the_average_follows_buffers_that_moving_a_module_replaced() -> None:
    """`.to("cuda")` makes new tensors of BatchNorm's statistics, as does another type."""
    method = tiny.objective("ganomaly")
    average = MovingAverage(method, decay=0.0)
    average.update()
    method.double()
    average.double()
    for (name, tensor), buffer in zip(method.named_buffers(), average.objective.buffers(), strict=True):
        if tensor.is_floating_point():
            tensor += 2.5
            assert not torch.equal(tensor, buffer), name
    average.update()
    for (name, tensor), buffer in zip(method.named_buffers(), average.objective.buffers(), strict=True):
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, buffer, msg=name)


# --- schedule ---


class Rates(pl.Callback):
    """The learning rates of both networks in each step."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, ...]] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.seen.append(tuple(optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers))


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_the_schedule_moves_in_every_step_or_epoch_for_both_networks(interval: str, tmp_path: Path) -> None:
    rates = Rates()
    options = {"schedule": "cosine", "lr_generator": 2e-3, "lr_discriminator": 1e-3, "interval": interval}
    train(module(tiny.objective("ganomaly"), **options), tmp_path, epochs=4, callbacks=[rates])
    places = [step / 12 if interval == "step" else step // 3 / 4 for step in range(12)]
    for found, place in zip(rates.seen, places, strict=True):
        factor = 0.5 * (1 + math.cos(math.pi * place))
        assert found == pytest.approx((2e-3 * factor, 1e-3 * factor))


def test_a_schedule_is_as_long_as_the_steps_that_are_given(tmp_path: Path) -> None:
    rates = Rates()
    model = {**MODEL, "steps": 7, "optimizer": {**MODEL["optimizer"], "schedule": "one_cycle"}}
    config = {**CONFIG, "trainer": {**TRAINER, "max_epochs": None}}
    train_stage(tiny.objective("ganomaly"), Batches(), model, config, RunFolder(tmp_path), [rates])  # pyright: ignore[reportArgumentType]
    assert len(rates.seen) == 7
    assert max(rates.seen)[0] == pytest.approx(1e-4, rel=0.05)
    assert rates.seen[-1][0] < 1e-6


def test_an_unknown_interval_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match="interval=minute"):
        module(tiny.objective("ganomaly"), interval="minute")


# --- divergence ---

TRAINER = {"accelerator": "cpu", "max_epochs": 3, "check_val_every_n_epoch": 1}
CONFIG: dict[str, Any] = {"trainer": TRAINER, "logger": {}}
MODEL: dict[str, Any] = {
    "ema_decay": 0.9,
    "optimizer": {"lr_generator": 1e-4, "lr_discriminator": 1e-4, "schedule": "constant"},
}


@pytest.fixture
def _every_epoch_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "BETWEEN_PAUSES", 1)


@pytest.mark.usefixtures("_every_epoch_pauses")
def test_a_loss_that_is_no_number_stops_with_epoch_and_step_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    data: Any = Batches(bad_epoch=1)
    method = tiny.objective("ganomaly")
    with pytest.raises(TrainingDiverged, match=r"epoch 1, step 2.*last good checkpoint is kept") as raised:
        train_stage(method, data, MODEL, CONFIG, run)
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["last.ckpt"]
    state = read(run.last_checkpoint)
    assert state["epoch"] == 0
    assert all(torch.isfinite(tensor).all() for tensor in state["state_dict"].values())
    method.load_state_dict({k.removeprefix("objective."): v for k, v in state["state_dict"].items() if k[0] == "o"})


def test_between_pauses_the_first_bad_step_is_remembered(tmp_path: Path) -> None:
    """The bad epoch is the second of three, and only the last one pauses."""
    data: Any = Batches(bad_epoch=1)
    with pytest.raises(TrainingDiverged, match=r"epoch 1, step 2.*nothing was saved"):
        train_stage(tiny.objective("ganomaly"), data, MODEL, CONFIG, RunFolder(tmp_path))
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.usefixtures("_every_epoch_pauses")
def test_weights_spoilt_by_the_very_last_step_are_not_saved(tmp_path: Path) -> None:
    """The loss was finite and its gradient was not: no later loss of this epoch can tell."""
    method = tiny.objective("ganomaly")
    taken = 0
    losses = method.generator_losses

    def spoilt(step: Step) -> Losses:
        nonlocal taken
        taken += 1
        result = losses(step)
        if taken == 6:  # last of epoch 1; sqrt at 0: value 0, gradient infinite
            result["loss"] = result["loss"] + (step["x̂"] * 0).sum().sqrt()
        return result

    method.generator_losses = spoilt
    with pytest.raises(TrainingDiverged, match=r"epoch 1.*a weight is not a finite number"):
        train_stage(method, Batches(), MODEL, CONFIG, RunFolder(tmp_path))  # pyright: ignore[reportArgumentType]
    state = read(RunFolder(tmp_path).last_checkpoint)
    assert state["epoch"] == 0
    assert all(torch.isfinite(tensor).all() for tensor in state["state_dict"].values())


def test_impossible_trainer_options_are_the_users_to_mend(tmp_path: Path) -> None:
    for wrong in ({"accelerator": "abacus"}, {"precision": "7-bit"}, {"accelerator": "cpu", "devices": -3}):
        with pytest.raises(UserError, match="trainer"):
            train_stage(
                tiny.objective("ganomaly"),
                Batches(),  # pyright: ignore[reportArgumentType]
                MODEL,
                {**CONFIG, "trainer": {**TRAINER, **wrong}},
                RunFolder(tmp_path),
            )
