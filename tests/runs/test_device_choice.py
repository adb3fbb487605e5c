"""`device=auto`, and every other value as it is."""

import pytest
import torch

from anomap.runs.checkpoint_file import device_for


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_is_the_first_that_is_there(cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert device_for("auto", "last.ckpt") == expected
    assert device_for("auto", "last.onnx") == "cpu"  # ONNX Runtime computes there
    assert device_for("cuda:1", "last.ckpt") == "cuda:1"
    assert device_for("cuda", "last.onnx") == "cuda"  # which the detector refuses
