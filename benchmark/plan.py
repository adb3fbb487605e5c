"""How much is measured: everything, or what eight minutes allow."""

from dataclasses import dataclass

ADVERSARIAL = (
    *("ganomaly", "skip_ganomaly", "skip_cbam_ganomaly", "skip_cbam_sa_ganomaly"),
    *("attention_network", "adgan", "feature_attention_network", "feature_adgan"),
)
COMMANDS = ("train", "evaluate", "predict", "export", "preview", "report")
SIZES = (32, 64, 128, 256)  # of images, in pixels, for the cost against the size
IMAGE_COUNTS = (1_000, 10_000, 100_000)  # for the memory


@dataclass(frozen=True)
class Plan:
    """Sizes of all measurements.

    Attributes:
        rounds: of interleaved timing.
        methods: whose training and scoring are timed.
        steps: of training in one round.
        sizes: of images, of which scoring is timed.
        scored: images in one round of scoring.
        calls: of which the latency of one image is taken.
        decoded: files that are decoded in one round.
        peer_batches: of training in one round beside the peer.
        peer_epochs: before AUROC is compared; 0: it is not, since so few epochs as fit into minutes say nothing.
        peer_loaders: processes of the peer's loader; it gets the best of them.
        image_counts: for the memory.
        imports: of each command's module.
        seed: of weights and generated images.
    """

    rounds: int = 5
    methods: tuple[str, ...] = ADVERSARIAL
    steps: int = 8
    sizes: tuple[int, ...] = SIZES
    scored: int = 128
    calls: int = 100
    decoded: int = 1024
    peer_batches: int = 5
    peer_epochs: int = 4
    peer_loaders: tuple[int, ...] = (0, 2)
    image_counts: tuple[int, ...] = IMAGE_COUNTS
    imports: int = 3
    seed: int = 0

    @property
    def full(self) -> bool:
        """Whether nothing is left out to save time."""
        return self.methods == ADVERSARIAL


FULL = Plan()
QUICK = Plan(
    rounds=3,
    methods=("ganomaly", "skip_cbam_sa_ganomaly", "attention_network"),
    steps=3,
    sizes=(32, 64),
    scored=64,
    calls=30,
    decoded=256,
    peer_batches=3,
    peer_epochs=0,
    peer_loaders=(0,),
    image_counts=IMAGE_COUNTS[:2],
    imports=1,
)
