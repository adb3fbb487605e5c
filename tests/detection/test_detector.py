"""The public Python API: what it takes, what it refuses, and that it says the same however it is asked."""

import doctest
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from anomap.detection import checkpoint, detector
from anomap.detection.detector import Detector, Images, Prediction, Preprocessing
from anomap.detection.image_statistics import image_statistics
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError
from tests import tiny
from tests.data.helpers import png16, save

SIZE = (8, 10)


def means(images: Images) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """A model whose map is the first channel and whose score is its mean."""
    maps = images[:, :1].astype(np.float32)
    return maps.mean((1, 2, 3)).astype(np.float64), maps, image_statistics(images)


def make(channels: int = 1, intensity_range: tuple[float, float] | None = None) -> Detector:
    return Detector(means, Preprocessing(channels, SIZE, intensity_range), 100.0, 200.0, (0.0, 255.0))


def noise(*shape: int, dtype: Any = np.uint8) -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `last.ckpt` and `part.png`."""
    folder = tmp_path_factory.mktemp("trained")
    config = tiny.config("model=ganomaly")
    model = ScoringModel(tiny.busy(tiny.objective("ganomaly")), (tiny.SIZE, tiny.SIZE))
    model.calibrate([{"image": tiny.textures(8)}])
    model.set_threshold(config["threshold"])
    checkpoint.save(folder / "last.ckpt", {checkpoint.SECTION: checkpoint.section(model, config)})
    save(folder / "part.png", seed=1, size=(40, 50))
    return folder


# --- what it returns ---


def test_one_gives_one_and_many_give_a_list(tmp_path: Path) -> None:
    path, array = save(tmp_path / "a.png", seed=3, size=SIZE), noise(*SIZE)
    tensor = torch.from_numpy(array)
    for single in (path, str(path), array, tensor, array[None], array[..., None], tensor[None]):
        assert isinstance(make().predict(single), Prediction)
        assert make().score(single).shape == (1,)
    batch = noise(3, 1, *SIZE)
    grey = noise(4, *SIZE)[:3]
    assert isinstance(make().predict(grey), Prediction)  # three planes are the colours of one image
    assert len(make().predict(noise(5, *SIZE))) == len(make().predict(torch.from_numpy(noise(5, *SIZE)))) == 5
    for many in ([path, str(path), array], (path, array, tensor), batch, torch.from_numpy(batch), noise(3, *SIZE, 3)):
        predictions = make().predict(many)
        assert isinstance(predictions, list)
        assert len(predictions) == len(make().score(many)) == 3
    assert len(make().predict(image for image in batch)) == 3
    assert len(make().predict([array])) == 1


@pytest.mark.parametrize("nothing", [[], (), np.zeros((0, 1, 8, 10), np.uint8)])
def test_nothing_gives_nothing(nothing: Any) -> None:
    assert make().predict(nothing) == []
    assert make().score(nothing).shape == (0,)


def test_a_prediction_is_the_score_the_decision_and_the_map() -> None:
    image = noise(*SIZE)
    prediction = make().predict(image)
    assert prediction.score == pytest.approx(image.mean())
    np.testing.assert_array_equal(prediction.anomaly_map, image)
    assert prediction.anomaly_map.dtype == np.float32
    assert (prediction.threshold, prediction.is_anomaly) == (100.0, True)
    assert make().predict(np.full(SIZE, 100, np.uint8)).is_anomaly is False  # at the threshold is normal
    lower = make()
    lower.threshold = 99.5
    assert lower.predict(np.full(SIZE, 100, np.uint8)).is_anomaly is True


def test_it_prints_short() -> None:
    assert repr(make().predict(np.full((16, 20), 120, np.uint8))) == (
        "Prediction(abnormal, score=120, threshold=100, 20x16 px)"
    )
    assert "normal, score=7," in repr([make().predict(np.full(SIZE, 7, np.uint8))])


def spots() -> npt.NDArray[Any]:
    """Four times the detector's size, with two bright rectangles and a fainter one."""
    image = np.zeros((32, 40), np.uint8)
    image[4:16, 8:20], image[16:28, 24:36], image[20:32, 0:12] = 255, 230, 150
    return image


def test_maps_and_pictures_have_the_photographs_own_size(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", spots())
    for given in (path, spots(), torch.from_numpy(spots())):
        prediction = make().predict(given)
        assert prediction.size == prediction.anomaly_map.shape == prediction.mask.shape == (32, 40)
        assert prediction.anomaly_map.dtype == np.float32
        assert prediction.overlay().shape == (32, 40, 3)
        assert prediction.attention_map is None
        # upright: bright where the image is
        assert prediction.anomaly_map[10, 14] > 240 > 10 > prediction.anomaly_map[10, 30]


def test_a_photograph_that_is_turned_by_its_header_is_shown_as_people_see_it(tmp_path: Path) -> None:
    turned, plain = Image.fromarray(spots()), Image.Exif()
    plain[0x0112] = 6  # a quarter turn
    turned.save(tmp_path / "a.jpg", exif=plain)
    prediction = make().predict(tmp_path / "a.jpg")
    assert prediction.size == (40, 32)
    assert prediction.overlay().shape == (40, 32, 3)


def test_regions_are_the_connected_pieces_above_the_pixel_threshold() -> None:
    regions = make().predict(spots()).regions()
    assert [region.peak for region in regions] == [pytest.approx(247, abs=8), pytest.approx(223, abs=8)]  # no third
    for region, (left, top, right, bottom) in zip(regions, [(8, 4, 20, 16), (24, 16, 36, 28)], strict=True):
        x, y, x_end, y_end = region.box  # the detector sees a quarter as much: the edges are soft
        assert left <= x <= left + 4 < right - 4 <= x_end <= right
        assert top <= y <= top + 4 < bottom - 4 <= y_end <= bottom
        assert 0 < region.area <= (x_end - x) * (y_end - y)
    assert sum(region.area for region in regions) == make().predict(spots()).mask.sum()
    assert make().predict(np.zeros(SIZE, np.uint8)).regions() == []


def test_pieces_that_touch_at_a_corner_are_one_and_boxes_exclude_their_end() -> None:
    image = np.zeros(SIZE, np.uint8)
    image[2, 3] = image[3, 4] = 255
    (region,) = make().predict(image).regions()
    assert (region.box, region.area) == ((3, 2, 5, 4), 2)


def test_the_overlay_draws_around_the_region_and_leaves_the_rest_as_it_is(tmp_path: Path) -> None:
    colours = np.repeat(spots()[..., None], 3, axis=2)
    colours[..., 2] //= 2
    prediction = make().predict(colours)
    drawn = prediction.overlay()
    changed = (drawn != colours).any(2)
    assert 0 < changed.mean() < 0.2
    assert not changed[prediction.mask].any()
    prediction.save(tmp_path / "new" / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), drawn)
    prediction.save(str(tmp_path / "a.jpg"))
    assert Image.open(tmp_path / "a.jpg").format == "JPEG"


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    prediction = make().predict(spots())
    for name in ("a", "a.txt"):
        with pytest.raises(UserError, match=r"a(\.txt)?: no kind of picture"):
            prediction.save(tmp_path / name)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        prediction.save(tmp_path / "file" / "a.png")
    path = save(tmp_path / "gone.png", spots())
    prediction = make().predict(path)
    path.unlink()
    with pytest.raises(UserError, match=r"gone\.png"):
        prediction.overlay()


def test_colours_are_red_green_blue_unless_told_otherwise(tmp_path: Path) -> None:
    image = noise(*SIZE, 3)
    path, turned = save(tmp_path / "a.png", image), image[..., ::-1]
    expected = make(3).predict(path)  # its map is the red channel
    np.testing.assert_array_equal(expected.anomaly_map, image[..., 0])
    for frame in (turned, turned.transpose(2, 0, 1), torch.from_numpy(turned.copy())):
        found = make(3).predict(frame, bgr=True)
        np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)
        np.testing.assert_array_equal(found.overlay(), expected.overlay())
        np.testing.assert_array_equal(make(3).score(frame, bgr=True), make(3).score(path))
    np.testing.assert_array_equal(make(3).predict(path, bgr=True).anomaly_map, expected.anomaly_map)  # a file knows
    np.testing.assert_array_equal(make().predict(image[..., 0], bgr=True).anomaly_map, image[..., 0])  # grey


def test_predictions_can_be_sent_to_another_process(tmp_path: Path) -> None:
    prediction = make().predict(save(tmp_path / "a.png", spots()))
    sent = pickle.loads(pickle.dumps(prediction))
    np.testing.assert_array_equal(sent.overlay(), prediction.overlay())


def test_more_images_than_a_batch_keep_their_order() -> None:
    images = [np.full(SIZE, number, np.uint8) for number in range(detector.BATCH * 2 + 5)]
    assert make().score(images).tolist() == list(range(len(images)))


# --- what it takes ---


@pytest.mark.parametrize("channels", [1, 3])
def test_an_array_is_what_its_file_is(tmp_path: Path, channels: int) -> None:
    deep = noise(9, 11, 3, dtype=np.uint16)
    (tmp_path / "deep.png").write_bytes(png16(deep))
    pairs = {
        "grey": (save(tmp_path / "grey.png", noise(9, 11)), noise(9, 11)),
        "colour": (save(tmp_path / "colour.png", noise(9, 11, 3)), noise(9, 11, 3)),
        "grey16": (save(tmp_path / "grey16.png", noise(9, 11, dtype=np.uint16)), noise(9, 11, dtype=np.uint16)),
        "colour16": (tmp_path / "deep.png", deep),
    }
    preprocessing = Preprocessing(channels, SIZE)
    for name, (path, array) in pairs.items():
        read = preprocessing.read(path)
        assert read.shape == (channels, *SIZE)
        forms = [array, array.astype(array.dtype.newbyteorder(">")), torch.from_numpy(array), array[::-1][::-1]]
        if array.ndim == 3:
            forms += [array.transpose(2, 0, 1), torch.from_numpy(array).permute(2, 0, 1)]
        for form in forms:
            np.testing.assert_array_equal(preprocessing.take(form), read, err_msg=name)


@pytest.mark.parametrize("background", ["black", "white"])
def test_an_array_with_alpha_or_bands_is_what_its_file_is(tmp_path: Path, background: str) -> None:
    values = noise(12, 10, 4)
    Image.fromarray(values).save(tmp_path / "x.png")
    preprocessing = Preprocessing(3, SIZE, background=background)
    assert (preprocessing.take(values) == preprocessing.read(tmp_path / "x.png")).all()
    assert preprocessing.size_of(values) == (12, 10)
    many = noise(12, 10, 5)
    chosen = Preprocessing(3, SIZE, bands=(4, 0, 2)).take(many)
    assert (chosen == Preprocessing(3, SIZE).take(many[..., [4, 0, 2]])).all()


def test_an_array_of_many_bands_is_one_image_and_is_never_taken_for_another() -> None:
    detector = Detector(means, Preprocessing(3, SIZE, bands=(4, 0, 2)), 100.0, 200.0, (0.0, 255.0))
    assert len(detector.score(noise(12, 10, 5))) == 1
    assert detector.score(np.stack([noise(12, 10, 5)] * 3)).shape == (3,)
    for wrong in ((12, 10), (12, 10, 4), (5, 12, 3)):
        with pytest.raises(UserError, match=r"data\.bands=\[4, 0, 2\] give \(H, W, all bands\)"):
            detector.preprocessing.take(noise(*wrong))


def test_a_dark_image_stays_dark() -> None:
    assert make().score(np.full(SIZE, 20, np.uint8)).tolist() == [20.0]
    assert make().score(np.full(SIZE, 20 * 257, np.uint16)).tolist() == [20.0]
    assert make(intensity_range=(0, 1)).score(np.full(SIZE, 0.2, np.float32)).tolist() == [51.0]
    assert make(intensity_range=(0, 4095)).score(np.full(SIZE, 4095, np.uint16)).tolist() == [255.0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, np.int64, bool])
def test_values_without_a_natural_range_are_refused(dtype: Any) -> None:
    with pytest.raises(UserError, match=r"no natural range.*uint8 or uint16.*intensity_range"):
        make().predict(np.zeros(SIZE, dtype))


def test_float_tensors_are_refused_too() -> None:
    for values in (torch.rand(1, *SIZE), torch.rand(2, 1, *SIZE, requires_grad=True)):
        with pytest.raises(UserError, match="no natural range"):
            make().predict(values)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(UserError, match="not finite"):
        make(intensity_range=(0, 1)).predict(np.full(SIZE, value))


@pytest.mark.parametrize("shape", [(), (8,), (0, 8), (8, 10, 2), (2, 1, 1, 8, 10)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"of shape .*give \(H, W\)"):
        make().predict(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    "thing", [None, 3, [None], [[[1], [1, 2]]], np.array([["a"]]), [torch.zeros(8, 10).bfloat16()]]
)
def test_what_is_no_image_is_refused_in_one_line(thing: Any) -> None:
    with pytest.raises(UserError) as error:
        make(intensity_range=(0, 1)).predict(thing)
    assert "give" in str(error.value) or "not an array" in str(error.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"junk")
    for name in ("broken.png", "missing.png"):
        with pytest.raises(UserError, match=name):
            make().predict(tmp_path / name)
        with pytest.raises(UserError, match=name):
            make().score([noise(*SIZE), tmp_path / name])


def test_score_batch_takes_only_what_preprocessing_makes() -> None:
    assert make().score_batch(noise(2, 1, *SIZE))[1].shape == (2, *SIZE)
    floats: Any = np.zeros((2, 1, *SIZE), np.float32)
    for wrong in (noise(2, 1, 8, 8), noise(2, 3, *SIZE), noise(1, *SIZE), floats):
        with pytest.raises(UserError, match="score_batch takes uint8"):
            make().score_batch(wrong)


def test_preprocessing_survives_a_round_trip() -> None:
    for preprocessing in (Preprocessing(3, SIZE), Preprocessing(1, SIZE, (0.0, 4095.0), 77, (0, 2, 4), "white")):
        assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing


# --- loading ---


def test_the_example_in_the_docstring_runs(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    results = doctest.testmod(detector)
    assert results.attempted > 0
    assert results.failed == 0


def test_a_loaded_detector_scores_as_the_model_does_whatever_the_batch(trained: Path) -> None:
    loaded = Detector.load(trained / "last.ckpt")
    model, _ = checkpoint.load_model(trained / "last.ckpt")
    images = noise(5, 1, tiny.SIZE, tiny.SIZE)
    with torch.no_grad():
        scores, maps = model(torch.from_numpy(images))
    np.testing.assert_allclose(loaded.score(images), scores.numpy(), rtol=1e-4)
    np.testing.assert_allclose(
        np.stack([p.anomaly_map for p in loaded.predict(images)]), maps[:, 0], rtol=1e-4, atol=1e-6
    )
    alone = [float(loaded.score(image)[0]) for image in images[::-1]][::-1]
    np.testing.assert_allclose(alone, scores.numpy(), rtol=1e-4)
    assert (loaded.threshold, loaded.pixel_threshold, loaded.map_scale) == (
        *(model.threshold, model.pixel_threshold),
        model.map_scale,
    )


def test_the_attention_map_is_the_methods_own_or_none(trained: Path, tmp_path: Path) -> None:
    assert Detector.load(trained / "last.ckpt").predict(trained / "part.png").attention_map is None  # GANomaly has none
    config = tiny.config("model=attention_network")
    model = ScoringModel(tiny.busy(tiny.objective("attention_network")), (tiny.SIZE, tiny.SIZE))
    model.calibrate([{"image": tiny.textures(8)}])
    model.set_threshold(config["threshold"])
    checkpoint.save(tmp_path / "last.ckpt", {checkpoint.SECTION: checkpoint.section(model, config)})
    loaded = Detector.load(tmp_path / "last.ckpt")
    prediction = loaded.predict(trained / "part.png")
    assert prediction.attention_map is not None
    assert prediction.attention_map.shape == (40, 50)
    np.testing.assert_allclose(prediction.attention_map, 1 - prediction.anomaly_map, atol=1e-5)  # of this method
    assert prediction.score == pytest.approx(loaded.score(trained / "part.png")[0], rel=1e-5)


def test_read_only_images_bring_no_warning(trained: Path, recwarn: pytest.WarningsRecorder) -> None:
    image = noise(1, 1, tiny.SIZE, tiny.SIZE)
    image.flags.writeable = False
    Detector.load(trained / "last.ckpt").score_batch(image)
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("name", ["missing.ckpt", "part.png", "missing.onnx"])
def test_a_file_that_is_no_detector_is_refused(trained: Path, name: str) -> None:
    with pytest.raises(UserError, match=name):
        Detector.load(trained / name)


def test_a_device_that_is_not_here_is_refused(trained: Path) -> None:
    with pytest.raises(UserError, match="device=nonsense"):
        Detector.load(trained / "last.ckpt", "nonsense")
    with pytest.raises(UserError, match=r"\.onnx runs on the cpu"):
        Detector.load("model.onnx", "cuda")


@pytest.mark.thorough
def test_lightning_is_not_needed(trained: Path) -> None:
    program = (
        "import sys; sys.modules['pytorch_lightning'] = sys.modules['lightning'] = None\n"
        "from anomap import Detector\n"
        "print(Detector.load('last.ckpt').predict('part.png').score)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=trained, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(
        Detector.load(trained / "last.ckpt").score(trained / "part.png")[0], rel=1e-4
    )


def test_pillow_images_are_refused_alone_and_in_a_list() -> None:
    image = Image.fromarray(noise(*SIZE))
    for given in (image, [image]):
        with pytest.raises(UserError, match="a Pillow image: give its file"):
            make().predict(given)
