"""How a photograph lies beside the mean of normal ones."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from anomap.data.registration import IDENTITY, Pose, inverse, laid_out, moved, outlines, pose, rescaled

WINDOW = np.s_[60:360, 80:480]


def lie(shape: tuple[int, ...], turn: float, shift: np.ndarray | tuple[float, float], scale: float = 1.0) -> Pose:
    """A turn about the middle, a scale, then a shift."""
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = (np.array(shape) - 1) / 2
    return np.column_stack([matrix, middle + shift - matrix @ middle])


def _apart(one: Pose, other: Pose, shape: tuple[int, ...]) -> float:
    """The furthest that two poses put a corner apart, in pixels."""
    corners = np.array([(y, x) for y in (0, shape[0] - 1) for x in (0, shape[1] - 1)], float)
    return float(np.abs((corners @ (one - other)[:, :2].T) + (one - other)[:, 2]).max())


@pytest.fixture(scope="module")
def board() -> np.ndarray:
    """Larger than what is seen of it, so that something comes in at each border."""
    return gaussian_filter(np.random.default_rng(0).normal(size=(420, 560)).astype(np.float32), 2)


@pytest.mark.parametrize(
    ("turn", "scale", "shift"),
    [(0, 1, (0, 0)), (0, 1, (0.4, -0.3)), (0.01, 1, (7, -12)), (-0.02, 1.01, (-20, 15)), (0, 0.99, (30, 25))],
)
def test_shift_turn_and_scale_are_found(
    board: np.ndarray, turn: float, scale: float, shift: tuple[float, float]
) -> None:
    true = lie(board[WINDOW].shape, turn, shift, scale)
    origin = np.array([60, 80])
    whole = np.column_stack([true[:, :2], true[:, 2] + origin - true[:, :2] @ origin])
    light = np.linspace(0, 0.3, 400, dtype=np.float32)
    photograph = moved(board, inverse(whole))[WINDOW] * 0.7 + light
    noisy = photograph + np.random.default_rng(1).normal(0, 0.3 * photograph.std(), photograph.shape)
    found = pose(board[WINDOW], noisy.astype(np.float32))
    assert _apart(found, true, board[WINDOW].shape) < 0.4


def test_a_defect_moves_nothing(board: np.ndarray) -> None:
    spoiled = board[WINDOW].copy()
    spoiled[100:160, 100:180] = np.roll(spoiled, (40, 70), (0, 1))[100:160, 100:180]  # a part of the board elsewhere
    assert _apart(pose(board[WINDOW], spoiled), IDENTITY, spoiled.shape) < 0.1


def test_what_shows_something_else_stays_where_it_is(board: np.ndarray) -> None:
    flat = np.zeros_like(board[WINDOW])
    assert pose(board[WINDOW], flat) is IDENTITY
    assert pose(flat, board[WINDOW]) is IDENTITY
    assert pose(board[WINDOW], np.roll(board, 150, axis=1)[WINDOW]) is IDENTITY  # further than is believed
    for seed in range(5):
        noise = np.random.default_rng(seed + 10).normal(size=board.shape).astype(np.float32)
        other: np.ndarray = gaussian_filter(noise, 2)[WINDOW]
        found = pose(board[WINDOW], other)
        assert np.isfinite(found).all()
        assert _apart(found, IDENTITY, other.shape) < 0.6 * max(other.shape)


@pytest.mark.parametrize("shape", [(64, 40), (13, 9), (5, 70), (1, 1)])
def test_planes_may_be_small(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    mean, plane = rng.normal(size=(2, *shape)).astype(np.float32)
    assert np.isfinite(pose(mean, plane)).all()
    assert _apart(pose(mean, mean), IDENTITY, shape) < 0.01


def test_a_pose_of_a_shrunk_plane_is_that_of_the_whole() -> None:
    found = lie((30, 40), 0.03, (2, -3), 1.02)
    large = rescaled(found, (30, 40), (90, 160))
    for at in ((0.0, 0.0), (12.0, 7.0)):
        middle, times = np.array(at), np.array([3, 4])
        expected = (found[:, :2] @ middle + found[:, 2] + 0.5) * times - 0.5
        np.testing.assert_allclose(large[:, :2] @ ((middle + 0.5) * times - 0.5) + large[:, 2], expected)


def test_there_and_back_is_nowhere() -> None:
    found = lie((30, 40), 0.03, (2, -3), 1.02)
    back = inverse(found)
    np.testing.assert_allclose(back[:, :2] @ found[:, :2], np.eye(2), atol=1e-12)
    np.testing.assert_allclose(back[:, :2] @ found[:, 2] + back[:, 2], 0, atol=1e-12)


def test_the_mean_is_as_sharp_as_its_photographs_and_lies_in_their_middle(board: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    shifts = [(12.0, 9.0), *rng.uniform(-6, 6, (7, 2))]  # the first lies apart from the others
    planes = [moved(board, lie(board.shape, 0, shift))[WINDOW] for shift in shifts]
    blurred, sharp = np.mean(planes, axis=0), laid_out(planes)[0]
    inner = np.s_[20:-20, 20:-20]
    assert sharp[inner].std() > 0.95 * planes[0][inner].std() > 1.5 * blurred[inner].std()
    middle = moved(board, lie(board.shape, 0, np.mean(shifts, axis=0)))[WINDOW]
    assert _apart(pose(sharp, middle), IDENTITY, sharp.shape) < 0.3


@pytest.mark.parametrize("shape", [(1, 1200, 1600), (3, 300, 200)])
def test_outlines_are_small_and_without_light(shape: tuple[int, ...]) -> None:
    light = np.broadcast_to(np.linspace(0, 255, shape[2]), shape).astype(np.uint8)
    seen = outlines(light)
    assert max(seen.shape) == min(512, max(shape))
    assert np.abs(seen[:, 8:-8]).max() < 2
    assert outlines(light, (40, 30)).shape == (40, 30)
