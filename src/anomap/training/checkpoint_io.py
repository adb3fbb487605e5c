"""Lightning's checkpoints through the same writer and reader as everything else: whole or not at all, tensors only."""

from typing import Any

from pytorch_lightning.plugins import TorchCheckpointIO

from anomap.detection.checkpoint import read, save


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary file, flushes it to disk, then renames it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Replace `path` by the new checkpoint in one step."""
        del storage_options
        save(path, checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read without running code from the file."""
        del map_location, weights_only
        return read(path)
