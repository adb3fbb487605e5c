"""Every YAML composes and names things that exist; what a user may get wrong is one line and exit status 2."""

import inspect
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra.utils
import pytest
import torch
from omegaconf import OmegaConf

from anomap.commands.train import train
from anomap.config import ALLOWED_TARGETS, build, config_dir, flat, targets
from anomap.errors import UserError
from anomap.networks.generators import EncoderDecoderEncoder, UNet
from tests import tiny
from tests.in_process import in_process

CONF = config_dir()
YAMLS = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml"))
# `space` is of anomap-tune: see tests/tuning
CHOICES = [
    path for path in YAMLS if len(path.parts) == 2 and path.parts[0] not in ("hydra", "space") and path.stem != "base"
]
# what the choice itself requires of the user
NEEDS = {"mvtec": ["data.root=nowhere", "data.category=bottle"]}


def whole_run(path: Path) -> bool:
    """Experiments and sweeps set everything themselves."""
    return path.parts[0] in ("experiment", "sweep")


@pytest.mark.parametrize("path", YAMLS, ids=str)
def test_the_first_line_says_what_to_type(path: Path) -> None:
    # Hydra reads where a file belongs from its very first line
    first, *_ = (line for line in (CONF / path).read_text().splitlines() if not line.startswith("# @package"))
    assert first.startswith("# ")
    assert "anomap-" in first


@pytest.mark.thorough
@pytest.mark.parametrize("path", CHOICES, ids=str)
def test_every_choice_of_every_group_composes_and_its_targets_take_its_keys(path: Path) -> None:
    group, name = path.parts[0], path.stem
    extra = [] if whole_run(path) else NEEDS.get(name, [])
    config = tiny.config(f"{group}={name}", *extra)
    for node in nodes(config):
        target = hydra.utils.get_object(node["_target_"])
        parameters = {key: value for key, value in node.items() if not key.startswith("_")}
        if node["_target_"].endswith("TensorBoardLogger"):
            parameters["save_dir"] = "given by fit"
        signature = inspect.signature(target)
        (signature.bind_partial if node.get("_partial_") else signature.bind)(**parameters)
        assert node["_target_"].startswith(ALLOWED_TARGETS)


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from nodes(value)


@pytest.mark.parametrize("path", [path for path in YAMLS if len(path.parts) == 1], ids=str)
def test_every_command_composes_with_defaults_only(path: Path) -> None:
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose(path.stem) is not None


@pytest.mark.parametrize("model", tiny.MODELS)
def test_every_model_names_itself_and_can_be_built_at_its_own_size(model: str) -> None:
    config = tiny.config(f"model={model}")
    assert config["model"]["name"] == model
    own: int = config["model"]["image_size"]
    objective = build(tiny.config(f"model={model}", f"data.image_size={own}")["model"]["objective"])
    networks = [module for module in objective.modules() if isinstance(module, UNet | EncoderDecoderEncoder)]
    assert all(objective.stride % network.stride == 0 for network in networks)
    assert own % objective.stride == 0
    assert objective.part_names


def test_images_get_the_models_size_and_the_run_its_length_unless_given() -> None:
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        free = compose("train", ["model=adgan", "data=folder", "data.root=x"])
        assert free.data.image_size == free.model.image_size
        assert free.trainer.max_epochs is None  # steps count
        assert min(free.model.steps, free.model.stage1.steps) > 0
        given = compose("train", ["model=adgan", "data.image_size=128"])
        assert given.model.objective.generator.image_size == given.model.objective.stage1.generator.image_size == 128


def test_a_data_sets_own_size_wins_over_the_models_and_the_command_line_over_both() -> None:
    from hydra import compose, initialize_config_dir

    def chosen(*overrides: str) -> tuple[int, int]:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            data = compose("train", ["model=skip_ganomaly", *overrides]).data
        return data.image_size, data.batch_size

    assert chosen("data=elpv") == (64, 64)  # the model's
    assert chosen("data=fashion_mnist") == (32, 64)  # the data set's
    assert chosen("data=fashion_mnist", "data.image_size=96", "data.batch_size=8") == (96, 8)
    assert chosen("experiment=fashion_mnist")[0] == 96


@pytest.mark.skipif(not tiny.PRETRAINED, reason="needs timm")
@pytest.mark.parametrize(
    ("encoder", "maps", "size"),
    [
        ("encoder.name=test_convnext", "", 64),
        ("encoder.name=test_vit", "encoder.local=[1,3] encoder.context=[5] encoder.detail=[]", 64),
        ("encoder.name=test_resnet", "encoder.context=[]", 32),
    ],
)
def test_networks_get_the_channels_of_any_encoder(encoder: str, maps: str, size: int, tmp_path: Path) -> None:
    import timm

    weights = tmp_path / "weights.pth"
    torch.save(timm.create_model(encoder.partition("=")[2]).state_dict(), weights)
    overrides = ["model=feature_adgan", encoder, *maps.split(), f"encoder.weights={weights}", f"data.image_size={size}"]
    method: Any = build(tiny.config(*overrides)["model"]["objective"])
    images = tiny.textures(6, size=size)
    method.stage1.learn_statistics([images])
    method.learn_statistics([images])
    with torch.no_grad():
        scored = method.eval().score(images)
    assert all(part.shape == (6,) and torch.isfinite(part).all() for part in scored.parts.values())
    assert scored.anomaly_map.shape == (6, 1, size, size)


# --- building ---


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.run",
        "builtins.eval",
        "anomap.runs.folder.write_atomically",  # ours, and writes a file wherever it is told to
        "anomap.cli.runner.os.system",  # a door through one of our modules
        "anomap.networks.blocks.torch.load",
        "torch.nn.modules.module.torch.load",
        "torchvision.datasets.utils.download_url",
        "pytorch_lightning.loggers.tensorboard.os.remove",
        "anomapx.networks.UNet",
    ],
)
def test_other_targets_are_refused(target: str) -> None:
    nested = {"_target_": "anomap.objectives.controls.PCAError", "components": [{"deep": {"_target_": target}}]}
    assert target in targets(nested)
    for node in ({"_target_": target}, nested):
        with pytest.raises(UserError, match="not allowed"):
            build(node)


@pytest.mark.parametrize("text", ["${oc.env:HOME}", "${oc.create:{_target_:os.getcwd}}", "x${y}"])
def test_an_interpolation_could_hide_a_target_and_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="interpolation"):
        build({"_target_": "anomap.objectives.controls.PCAError", "components": text})


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "anomap.objectives.controls.PCAEror"}, "no such class"),
        ({"_target_": "anomap.objectives.controls.PCAError", "component": 3}, "component"),
        ({"_target_": "anomap.objectives.controls.PCAError", "components": "x"}, "components=x: give a whole number"),
        ({"_target_": "anomap.objectives.density.Mixture", "components": 0}, "components=0: give a whole number"),
        ({"_target_": "anomap.objectives.density.NearestNormal", "samples": 2.5}, r"samples=2\.5: give a whole number"),
        ({"_target_": "anomap.networks.generators.UNet", "channels": 1, "image_size": 32, "skips": "dense"}, "skips"),
    ],
)
def test_what_cannot_be_built_is_one_line(node: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        build(node)
    assert "\n" not in str(raised.value)


def test_flat_keys_are_those_of_the_command_line() -> None:
    assert flat({"a": {"b": 1, "c": {"d": [1, 2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [1, 2], "e": {}}


# --- the command line ---


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trainer.max_epoch=3"], ["trainer.max_epoch: no such key", "did you mean trainer.max_epochs?"]),
        (["model.objective.weigths.adversarial=3"], ["did you mean model.objective.weights?"]),
        (["image_size=64"], ["did you mean data.image_size or model.image_size?"]),
        (["trainer.max_epochs.of=3"], ["trainer.max_epochs has no keys below"]),
        (["qqq=3"], ["known here:", "controls", "experiment"]),
        (["modle=adgan"], ["modle: no such key", "did you mean model?"]),
        (["expermient=elpv"], ["did you mean experiment?"]),
        (["format=onnx"], ["format: no such key"]),
        (["model=adgn"], ["model=adgn: no such option", "did you mean model=adgan?", "ganomaly"]),
        (["model=nope"], ["model=nope: no such option", "known: adgan, "]),
        (["experiment=epv"], ["did you mean experiment=elpv?"]),
        (["ablation=ful"], ["did you mean ablation=full?"]),
        (["sweep=seed"], ["did you mean sweep=seeds?"]),
        (["seed=0,1"], ["seed=0,1", "anomap-train -m"]),
        (["nonsense"], ["nonsense"]),
        (["data.image_size=[32"], ["[32"]),
        (["data=folder", "data.root=/no/such"], ["/no/such", "does not exist"]),
        (["data=folder"], ["data.root is not set"]),
        (
            ["data=folder", "data.root=X", "model=ganomaly", "data.image_size=50"],
            ["image_size=48", "image_size=64", "multiple of 16"],
        ),
        (["data=folder", "data.root=X", "model=adgan", "data.image_size=[64,100]"], ["[64,96]", "[64,128]"]),
        (["data=folder", "data.root=X", "model=ganomaly", "data.image_size=0"], ["image_size=0", "least is 16"]),
        (["data=folder", "data.root=X", "model=adgan", "data.image_size=8"], ["image_size=8", "least is"]),
        (["data=folder", "data.root=X", "model=ganomaly", "data.image_size=big"], ["image_size=big", "[height,width]"]),
        (["data=folder", "data.root=X", "model=control_pca", "data.image_size=null"], ["data.image_size=None"]),
        (["data=folder", "data.root=X", "model=control_pca", "data.image_size=-4"], ["data.image_size=-4", "positive"]),
        (["data=folder", "data.root=X", "model=control_mean", "data.channels=2"], ["data.channels=2", "1", "3"]),
        (["data=folder", "data.root=X", "model.name=${nothing}"], ["nothing"]),
        (["data=folder", "data.root=X", "seed=???"], ["seed"]),
        (["data=folder", "data.root=X", "model=ganomaly", "model.objective._target_=os.system"], ["os.system"]),
        (["data=folder", "data.root=X", "model=ganomaly", "+model.objective.depth=3"], ["depth"]),
        (["data=folder", "data.root=X", "augmentation.only_fills=[blurr]"], ["blurr"]),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else None,
)
def test_what_the_user_got_wrong_is_one_line_and_exit_status_2(
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "data"
    (data / "train" / "0.normal").mkdir(parents=True)
    arguments = [argument.replace("data.root=X", f"data.root={data}") for argument in arguments]
    assert in_process(arguments, tmp_path, monkeypatch) == 2
    error = capfd.readouterr().err
    assert len(error.splitlines()) == 1, error
    assert error.startswith("error: ")
    assert [word for word in words if word not in error] == []


def test_an_unexpected_error_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    import anomap.commands.train as command

    monkeypatch.setattr(command, "train", broken)
    with pytest.raises(ZeroDivisionError):
        in_process(["data=folder", f"data.root={tmp_path}"], tmp_path, monkeypatch)


def test_train_refuses_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        train(tiny.config("model=ganomaly"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_process_of_its_own_from_another_folder(tmp_path: Path) -> None:
    """`--cfg job` works anywhere and leaves nothing; a wrong key gives one line and status 2 without a traceback."""
    script = Path(sys.executable).with_name("anomap-train")
    environment = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}

    def run(*arguments: str) -> Any:
        return subprocess.run(
            [script, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, env=environment
        )

    shown = run("--cfg", "job", "model=ganomaly", "data.image_size=96")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert OmegaConf.create(shown.stdout).data.image_size == 96
    assert not list(tmp_path.iterdir())
    wrong = run("trainer.max_epoch=3")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert len(wrong.stderr.splitlines()) == 1
    assert "Traceback" not in wrong.stderr


def test_help_shows_groups_keys_and_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert in_process(["--help"], tmp_path, monkeypatch) == 0
    text = capfd.readouterr().out
    for model in tiny.MODELS:
        assert model in text
    assert text.count("anomap-train ") >= 2
    for key in ("batch_size", "max_epochs", "lr_generator"):
        assert key in text


def test_group_choices_are_disjoint_from_hydras_own_keys() -> None:
    names = {path.stem for path in CHOICES}
    assert names
    assert not names & {"null", "default_"}
    assert len({(path.parts[0], path.stem) for path in CHOICES}) == len(CHOICES)
    assert not [a for a, b in itertools.pairwise(sorted(path.as_posix().lower() for path in CHOICES)) if a == b]
