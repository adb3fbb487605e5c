"""The ceiling on solar cells: the frozen encoder's features *with* labels, by a cross-validated support vector machine.

    python scripts/oracle_elpv.py                # all cells; a few minutes
    python scripts/oracle_elpv.py --cells poly

What a method that learns from normal cells alone can hope for from these features. Each feature map is pooled over its
cells (mean, standard deviation, maximum), standardised, reduced by PCA, and classified by an RBF-SVM; all of it is
fitted on four fifths of the cells and ranks the last fifth. `oracle_image_auroc` is over all cells of a fold,
`oracle_test_image_auroc` over those of `data=elpv`'s test set only, so it stands beside the published AUROCs.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor

from anomap.data.images import load_image
from anomap.data.layouts.elpv import CELLS, ElpvLayout
from anomap.data.samples import Sample
from anomap.errors import UserError
from anomap.networks.encoder import PretrainedEncoder

BATCH = 32
COMPONENTS = 256  # of the PCA


def pooled(maps: Sequence[Tensor]) -> Tensor:
    """Feature maps (B, C_s, H_s, W_s) -> (B, 3 sum C_s): mean, standard deviation and maximum over the cells of each."""
    return torch.cat([part for m in maps for part in (m.mean((2, 3)), m.std((2, 3)), m.amax((2, 3)))], dim=1)


@torch.inference_mode()
def features(samples: Sequence[Sample], size: int) -> NDArray[np.float32]:
    """The pooled features of images, (N, F), in the order of the samples.

    Raises:
        UserError: the encoder's weights or an image are missing.
    """
    encoder = PretrainedEncoder()
    encoder.load_pretrained()
    rows = []
    for start in range(0, len(samples), BATCH):
        paths = [sample.path for sample in samples[start : start + BATCH]]
        images = np.stack([load_image(path, 1, (size, size)) for path in paths if path is not None])
        rows.append(pooled(encoder(torch.from_numpy(images).float() / 255)))
    return torch.cat(rows).numpy()


def classifier(components: int) -> Pipeline:
    """Standardised, reduced by PCA, RBF-SVM. Whitening the components costs 0.02 of AUROC: the labels need no rare ones."""
    return make_pipeline(StandardScaler(), PCA(components, random_state=0), SVC(C=10))


def cross_validated(
    x: NDArray, labels: NDArray[np.int64], in_test: NDArray[np.bool_], folds: int = 5, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """AUROC of each fold, (folds,), by key.

    Args:
        x: (N, F).
        labels: (N,), 0 normal, 1 abnormal.
        in_test: (N,), which images also belong to the unsupervised methods' test set.
        folds: parts of the data, each ranked by what the others taught.
        seed: of the parts.
    """
    result: dict[str, list[float]] = {"oracle_image_auroc": [], "oracle_test_image_auroc": []}
    for learn, rank in StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, labels):
        components = min(COMPONENTS, len(learn) - 1, x.shape[1])
        scores = classifier(components).fit(x[learn], labels[learn]).decision_function(x[rank])
        tested = in_test[rank]
        result["oracle_image_auroc"].append(float(roc_auc_score(labels[rank], scores)))
        result["oracle_test_image_auroc"].append(float(roc_auc_score(labels[rank][tested], scores[tested])))
    return {key: np.array(values) for key, values in result.items()}


def main() -> None:
    """Print mean and standard deviation over the folds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", help="folder with labels.csv and images/; default: the package elpv-dataset")
    parser.add_argument("--cells", choices=CELLS, default="all")
    parser.add_argument("--uncertain", action="store_true", help="keep the cells of defect probability 1/3 and 2/3")
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--seed", type=int, default=0, help="of the folds")
    asked = parser.parse_args()
    scan = ElpvLayout(asked.root, asked.cells, asked.uncertain).scan()
    samples = [*scan.train, *scan.test]
    labels = np.array([sample.label for sample in samples])
    in_test = np.arange(len(samples)) >= len(scan.train)
    print(f"{len(samples)} cells, {labels.sum()} abnormal, {in_test.sum()} in the test set")
    for key, values in cross_validated(features(samples, asked.size), labels, in_test, seed=asked.seed).items():
        print(f"{key} {values.mean():.4f} ± {values.std(ddof=1):.4f}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
