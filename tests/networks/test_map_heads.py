"""The heads that draw the attention map over features."""

import torch
from torch.nn import functional as F

from anomap.networks.map_heads import FineHead, cell_head


def test_the_fine_map_has_twice_the_resolution_and_starts_normal() -> None:
    fine, coarse = FineHead(5, detail=12)(torch.rand(2, 5, 6, 4), torch.rand(2, 12, 6, 4))
    assert fine.shape == (2, 1, 12, 8)
    assert coarse.shape == (2, 1, 6, 4)
    assert torch.sigmoid(torch.cat([fine.flatten(), coarse.flatten()])).min() > 0.5


def test_a_detail_changes_the_fine_map_where_it_lies_and_the_coarse_map_nowhere() -> None:
    head = FineHead(3, detail=4).eval()
    features, detail = torch.rand(1, 3, 8, 8), torch.zeros(1, 1, 16, 16)
    before = head(features, F.pixel_unshuffle(detail, 2))
    detail[0, 0, 5, 10] = 3.0
    after = head(features, F.pixel_unshuffle(detail, 2))
    changed = (after[0] - before[0]).abs()[0, 0] > 1e-7
    rows, columns = changed.nonzero().unbind(1)
    assert changed[5, 10]
    assert rows.min() >= 4
    assert rows.max() <= 6
    assert columns.min() >= 9
    assert columns.max() <= 11
    assert torch.equal(after[1], before[1])


def test_without_details_the_fine_map_is_drawn_from_the_features() -> None:
    assert FineHead(3)(torch.rand(2, 3, 4, 4), torch.rand(2, 0, 4, 4))[0].shape == (2, 1, 8, 8)


def test_the_cell_head_sees_no_neighbour() -> None:
    head = cell_head(3).eval()
    x = torch.rand(1, 3, 4, 4)
    before = head(x)
    x[0, :, 1, 2] += 1
    changed = (head(x) - before).abs()[0, 0] > 1e-7
    assert changed.nonzero().tolist() == [[1, 2]]
