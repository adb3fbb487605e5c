"""ADGAN's whole-image part: a Gaussian over the moments of what stage 1's encoder saw."""

from typing import Any

import numpy as np
import pytest
import torch

from anomap.errors import UserError
from tests import tiny


def test_the_image_part_is_the_mahalanobis_distance_of_the_encoders_moments() -> None:
    images = tiny.textures(40)
    method: Any = tiny.busy(tiny.objective("adgan"), images)
    method.fit([images[:25], images[25:]])  # again: what BatchNorm has seen since changed the features
    with torch.no_grad():
        maps = method.stage1.generator(images * 2 - 1).features
        moments = torch.cat([m for f in maps for m in (f.mean((2, 3)), f.flatten(2).std(2, correction=0))], 1).double()
        found = method.score(images).parts["image"]
    assert [f.shape[-1] for f in maps] == [16, 8, 4, 2, 1]
    scaled = ((moments - moments.mean(0)) / moments.std(0, correction=0).clamp(min=1e-9)).numpy()
    shrunk = 0.97 * scaled.T @ scaled / len(scaled) + 0.03 * np.eye(scaled.shape[1])
    expected = np.einsum("nd,de,ne->n", scaled, np.linalg.inv(shrunk), scaled)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-2)


def test_the_parts_of_the_score_can_be_chosen() -> None:
    method = tiny.objective("adgan", "model.objective.parts=[map,image]")
    assert method.part_names == ("map", "image")
    with pytest.raises(UserError, match="use some of"):
        tiny.objective("adgan", "model.objective.parts=[colour]")
