"""`anomap-train` that writes down, for each process, which samples it trained on and the state it reached in every step."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from anomap.cli.entry import train
from anomap.training.module import AdversarialTraining
from anomap.training.processes import SharedStatistics

FOLDER = Path(os.environ["WATCHED"])
seen: list[tuple[int, list[int]]] = []
step, shared = AdversarialTraining.training_step, SharedStatistics.on_train_batch_end


def watched(self: AdversarialTraining, batch: Any, batch_index: int) -> None:
    """Remember the samples."""
    seen.append((self.current_epoch, batch["index"].tolist()))
    step(self, batch, batch_index)


def after(self: SharedStatistics, trainer: Any, pl_module: Any, *rest: Any) -> None:
    """Write both down."""
    shared(self, trainer, pl_module, *rest)
    digest = hashlib.sha256(
        b"".join(tensor.numpy().tobytes() for tensor in pl_module.state_dict().values())
    ).hexdigest()
    epoch, samples = seen[-1]
    with open(FOLDER / f"{trainer.global_rank}.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps([epoch, samples, digest]) + "\n")


AdversarialTraining.training_step = watched
SharedStatistics.on_train_batch_end = after  # pyright: ignore[reportAttributeAccessIssue]

if __name__ == "__main__":
    train()
