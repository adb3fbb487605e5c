"""ADGAN's whole-image part: the nearest normal image, by the moments of what stage 1's encoder saw."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.covariance import oas

from anomap.errors import UserError
from tests import tiny


def test_the_image_part_is_the_distance_to_the_nearest_normal_by_the_encoders_moments() -> None:
    images = tiny.textures(40)
    method: Any = tiny.busy(tiny.objective("adgan"), images)
    normal, count = images[:30], 30
    method.learn_statistics([normal[:20], normal[20:]])  # again: what BatchNorm has seen since changed the features
    with torch.no_grad():
        maps = method.stage1.generator(images * 2 - 1).features
        moments = torch.cat([m for f in maps for m in (f.mean((2, 3)), f.flatten(2).std(2, correction=0))], 1).double()
        found = method.score(images).parts["image"]
    assert [f.shape[-1] for f in maps] == [16, 8, 4, 2, 1]
    mean, variance = moments[:count].mean(0), moments[:count].var(0, correction=0)
    scaled = ((moments - mean) / ((count * variance + variance.mean()) / (count + 1)).sqrt()).numpy()
    correlation, size = scaled[:count].T @ scaled[:count] / count, scaled.shape[1]
    rho = max(0.03, oas(scaled[:count], assume_centered=True)[1])
    shrunk = (1 - rho) * correlation + rho * np.trace(correlation) / size * np.eye(size)
    offsets = scaled[count:, None] - scaled[None, :count]  # (10, 30, D)
    squared = np.einsum("nmd,de,nme->nm", offsets, np.linalg.inv(shrunk), offsets)
    np.testing.assert_allclose(found[count:].numpy(), np.sqrt(squared.min(1) / size), rtol=1e-2)
    assert found[:count].max() < 0.2 * found[count:].min()  # each remembered image is its own nearest


def test_the_parts_of_the_score_can_be_chosen() -> None:
    method = tiny.objective("adgan", "model.objective.parts=[map,image]")
    assert method.part_names == ("map", "image")
    with pytest.raises(UserError, match="use some of"):
        tiny.objective("adgan", "model.objective.parts=[colour]")
