"""The oracle on solar cells: what it pools, and that a cell is never ranked by its own label."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import oracle_elpv


def test_pooled_is_mean_deviation_and_maximum_of_each_map() -> None:
    maps = [torch.rand(2, 3, 8, 8), torch.rand(2, 5, 4, 4)]
    rows = oracle_elpv.pooled(maps)
    assert rows.shape == (2, 3 * (3 + 5))
    torch.testing.assert_close(rows[:, :3], maps[0].flatten(2).mean(2))
    torch.testing.assert_close(rows[:, 3:6], maps[0].flatten(2).std(2))
    torch.testing.assert_close(rows[:, -5:], maps[1].flatten(2).amax(2))


def test_labels_of_the_ranked_fold_are_not_learned_from() -> None:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1], [120, 60]))
    in_test = (labels == 1) | (rng.random(180) < 0.4)
    x = rng.normal(size=(180, 30))
    blind = oracle_elpv.cross_validated(x, labels, in_test)
    assert all(abs(values.mean() - 0.5) < 0.12 for values in blind.values())
    x[:, 0] += 4 * labels
    seeing = oracle_elpv.cross_validated(x, labels, in_test)
    assert set(seeing) == {"oracle_image_auroc", "oracle_test_image_auroc"}
    assert all(values.shape == (5,) and values.mean() > 0.9 for values in seeing.values())


def test_missing_data_is_one_line_and_status_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["oracle_elpv.py", "--root", str(tmp_path / "none")])
    with pytest.raises(oracle_elpv.UserError, match="none"):
        oracle_elpv.main()
