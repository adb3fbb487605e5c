"""python -m benchmark.peer_worker SPEC: anomalib's GANomaly in a process of its own, told what to do line by line.

Only this file and `detector_worker` import anomalib.
"""

# pyright: reportMissingImports=false
# anomalib is in no environment but the benchmark's

import time
from typing import Any

import torch

from benchmark.processes import Tasks, serve


def tasks(spec: dict[str, Any]) -> Tasks:
    """What it is told to do, by name."""
    peer = Peer(spec)
    return {
        "facts": peer.facts,
        "train": peer.train,
        "score": peer.score,
        "bare_train": peer.bare_train,
        "bare_score": peer.bare_score,
        "auroc": peer.auroc,
    }


class Peer:
    """anomalib's own Engine, Folder data and GANomaly, at its defaults but for size, batch and processes of the loader.

    Args:
        spec: `train`, `test_normal`, `test_abnormal` (folders), `side`, `batch`, `seed`, `workers`, `output`.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        from anomalib.data import Folder

        self.spec = spec
        self._renew()
        self.data = Folder(
            name="benchmark",
            normal_dir=spec["train"],
            normal_test_dir=spec["test_normal"],
            abnormal_dir=spec["test_abnormal"],
            train_batch_size=spec["batch"],
            eval_batch_size=spec["batch"],
            num_workers=spec["workers"],
            val_split_mode="none",
            seed=spec["seed"],
        )
        self._batches: list[torch.Tensor] = []

    def _renew(self) -> None:
        """An untrained model."""
        import lightning.pytorch as lightning
        from anomalib.models import Ganomaly

        spec = self.spec
        lightning.seed_everything(spec["seed"], workers=True)
        self.pre_processor: Any = Ganomaly.configure_pre_processor(image_size=(spec["side"], spec["side"]))
        # by default the post-processor would normalise the scores with the test set's own range
        self.model = Ganomaly(
            batch_size=spec["batch"], pre_processor=self.pre_processor, post_processor=False, visualizer=False
        )

    def facts(self) -> dict[str, Any]:
        """Version and FLOPs."""
        import importlib.metadata

        from anomap.detection.operations import flops

        image = torch.rand(2, 3, self.spec["side"], self.spec["side"])
        network: Any = self.model.model
        return {
            "version": importlib.metadata.version("anomalib"),
            "generator_mflop": flops(lambda: network.generator(image)) / 2e6,
            "discriminator_mflop": flops(lambda: network.discriminator(image)) / 2e6,
        }

    def train(self, batches: int | None, epochs: int = 1) -> dict[str, float]:
        """Images and seconds of training steps, from the first batch's start to the last one's end."""
        stopwatch = _stopwatch()
        self.model.train()  # Lightning trains a network in the mode it finds it in
        limits = {} if batches is None else {"limit_train_batches": batches}
        self._engine(stopwatch, max_epochs=epochs, limit_val_batches=0, **limits).fit(self.model, self.data)
        return {"count": stopwatch.images, "seconds": stopwatch.seconds}

    def score(self, batches: int | None) -> dict[str, Any]:
        """Images and seconds of scoring files, and the scores with their labels."""
        stopwatch = _stopwatch()
        limits = {} if batches is None else {"limit_predict_batches": batches}
        self.data.setup()
        found: Any = self._engine(stopwatch, **limits).predict(self.model, dataloaders=self.data.test_dataloader())
        scores = [float(score) for batch in found for score in batch.pred_score]
        labels = [int(label) for batch in found for label in batch.gt_label]
        return {"count": len(scores), "seconds": stopwatch.seconds, "scores": scores, "labels": labels}

    def auroc(self, epochs: int) -> dict[str, float]:
        """Train from the start, then AUROC on raw scores (its own metric squashes each batch by a sigmoid)."""
        from sklearn.metrics import roc_auc_score

        self._renew()
        self.train(None, epochs)
        found = self.score(None)
        return {"auroc": float(roc_auc_score(found["labels"], found["scores"])), "images": found["count"]}

    def bare_train(self, batches: int, channels_last: bool) -> dict[str, float]:
        """Its network, losses and optimisers on batches in memory, without Engine, Lightning and data."""
        images = self._in_memory(batches, channels_last)
        network: Any = self.model.model
        generator_loss: Any = self.model.generator_loss
        discriminator_loss: Any = self.model.discriminator_loss
        network.train()
        adam_d, adam_g = self.model.configure_optimizers()
        began = time.perf_counter()
        for image in images:
            padded, fake, latent_i, latent_o = network(image)
            pred_real, _ = network.discriminator(padded)
            pred_fake, _ = network.discriminator(fake)
            adam_g.zero_grad()
            generator_loss(latent_i, latent_o, padded, fake, pred_real, pred_fake).backward(retain_graph=True)
            adam_g.step()
            pred_fake, _ = network.discriminator(fake.detach())
            adam_d.zero_grad()
            discriminator_loss(pred_real, pred_fake).backward()
            adam_d.step()
        return {"count": sum(len(image) for image in images), "seconds": time.perf_counter() - began}

    @torch.inference_mode()
    def bare_score(self, batches: int) -> dict[str, float]:
        """Its network on batches in memory."""
        images = self._in_memory(batches, channels_last=False)
        network: Any = self.model.model.eval()
        began = time.perf_counter()
        for image in images:
            network(image)
        return {"count": sum(len(image) for image in images), "seconds": time.perf_counter() - began}

    def _in_memory(self, batches: int, channels_last: bool) -> list[torch.Tensor]:
        if len(self._batches) < batches:
            self.data.setup()
            loaded = zip(range(batches), self.data.train_dataloader(), strict=False)
            self._batches = [self.pre_processor(batch.image) for _, batch in loaded]
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.model.model.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
        return [batch.contiguous(memory_format=layout) for batch in self._batches[:batches]]

    def _engine(self, stopwatch: Any, **arguments: Any) -> Any:
        from anomalib.engine import Engine

        self.model.model.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
        return Engine(
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            default_root_dir=self.spec["output"],
            callbacks=[stopwatch],
            **arguments,
        )


def _stopwatch() -> Any:
    """A callback with `images` and `seconds` of training, or of prediction as a whole."""
    from lightning.pytorch.callbacks import Callback

    class Stopwatch(Callback):
        def __init__(self) -> None:
            self.images, self.seconds, self._since = 0, 0.0, 0.0

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 0:
                self._since = time.perf_counter()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.images += len(batch.image)
            if trainer.is_last_batch:
                self.seconds += time.perf_counter() - self._since

        def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
            self._since = time.perf_counter()

        def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
            self.seconds += time.perf_counter() - self._since

    return Stopwatch()


if __name__ == "__main__":
    serve(tasks)
