"""Data sets to try anomap on: drawn surfaces with masked defects, by numpy and Pillow.

    python scripts/textures.py textures                        # makes textures/{train,test,ground_truth}/...
    anomap-train data=folder data.root=textures
    python scripts/textures.py textures-wood --family wood     # a harder one; or board, fabric, metal, specks
    python scripts/textures.py textures-all --family all       # each of them in a folder of its own
    python scripts/textures.py other --family wood --seed 1    # another tree, other defects

The defects are drawn by other code than the hard augmentation that trains the models, so that localisation is
measured on something unseen. `weave`, the default, is the oldest family and the easiest.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from drawn import weave
from drawn.families import FAMILIES, Pixels, abnormal, normal, stream


def make(
    root: Path, family: str = "weave", train: int = 200, test: int | None = None, each: int | None = None, seed: int = 0
) -> None:
    """Write a data set in the layout of `data=folder`.

    Args:
        root: where to; made if missing.
        family: `weave` or a key of `FAMILIES`.
        train: normal training images.
        test: normal test images; None = 60 of the weave, 40 of the others.
        each: abnormal test images of each defect, with masks; None = 25 of the weave, 14 of the others.
        seed: of everything drawn.
    """
    if family == "weave":
        images = weave.images(train, test or 60, each or 25, seed)
    else:
        images = drawn(family, train, test or 40, each or 14, seed)
    for name, image in images:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def drawn(family: str, train: int, test: int, each: int, seed: int) -> Iterator[tuple[str, Pixels]]:
    """The files of a data set and what is in them."""
    made = FAMILIES[family]
    for split, count in (("train/good", train), ("test/good", test)):
        for number in range(count):
            yield f"{split}/{number:03d}.png", normal(made, stream(seed, family, split, number), seed)
    for defect in made.defects:
        for number in range(each):
            _, image, mask = abnormal(made, defect, stream(seed, family, defect, number), seed)
            yield f"test/{defect}/{number:03d}.png", image
            yield f"ground_truth/{defect}/{number:03d}_mask.png", mask.astype(np.uint8) * 255


def main() -> None:
    """Draw what the command line asks for, and say how to train on it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "root", type=Path, help="folder of the data set; with --family all, of a folder for each family"
    )
    parser.add_argument("--family", choices=("weave", *FAMILIES, "all"), default="weave")
    parser.add_argument(
        "--seed", type=int, default=0, help="of everything drawn; also another board, tree, print, yarn"
    )
    asked = parser.parse_args()
    for family in ("weave", *FAMILIES) if asked.family == "all" else (asked.family,):
        root = asked.root / family if asked.family == "all" else asked.root
        make(root, family, seed=asked.seed)
        print(f"anomap-train data=folder data.root={root}")


if __name__ == "__main__":
    main()
