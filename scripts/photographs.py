"""Large photographs with small defects to try anomap on: 2000 x 1500 pixels, spots of 4 to 40 pixels, masks.

    python scripts/photographs.py photographs                       # makes photographs/{train,test,ground_truth}/...
    anomap-train data=folder data.root=photographs
    python scripts/photographs.py boards --family board             # or smooth (the default), brushed
    python scripts/photographs.py small --width 640 --height 480 --train 20 --test 10 --each 2

A test folder says what its photographs have: `test/d12_c40` a spot of 12 pixels in diameter that is 40 grey levels darker
or lighter than what is around it. The spots are drawn by other code than the hard augmentation that trains the models.
Photographs are grey JPEGs of quality 95, as cameras write them: half of a PNG's size, and quicker to write and to read;
masks are one-bit PNGs, of some hundred bytes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from drawn.families import stream
from drawn.photograph import FAMILIES, exposed, spoiled

DIAMETERS = (4, 8, 12, 20, 40)  # pixels
CONTRASTS = (20, 40, 80)  # grey levels of 255
QUALITY = 95


def make(
    root: Path,
    family: str = "smooth",
    size: tuple[int, int] = (2000, 1500),
    train: int = 60,
    test: int = 30,
    each: int = 6,
    seed: int = 0,
    diameters: Sequence[int] = DIAMETERS,
    contrasts: Sequence[int] = CONTRASTS,
) -> None:
    """Write a data set in the layout of `data=folder`; a photograph depends on the seed and its own name only.

    Args:
        root: where to; made if missing.
        family: a key of `FAMILIES`.
        size: (width, height) in pixels.
        train: normal training photographs.
        test: normal test photographs.
        each: photographs with one spot of each diameter and contrast, with masks.
        seed: of everything drawn; another one is also another board.
        diameters: of the spots, in pixels.
        contrasts: of the spots, in grey levels.
    """
    kinds = [(f"d{diameter:02d}_c{contrast}", diameter, contrast) for diameter in diameters for contrast in contrasts]
    sets = [("train", "good", train, None), ("test", "good", test, None)]
    sets += [("test", name, each, (diameter, contrast)) for name, diameter, contrast in kinds]
    for split, name, count, spot in sets:
        for number in range(count):
            rng = stream(seed, family, split, name, number)
            levels = FAMILIES[family](rng, size, seed)
            if spot is not None:
                levels, mask = spoiled(rng, levels, *spot)
                _save(root / "ground_truth" / name / f"{number:03d}_mask.png", Image.fromarray(mask), optimize=True)
            _save(root / split / name / f"{number:03d}.jpg", Image.fromarray(exposed(rng, levels)), quality=QUALITY)


def _save(path: Path, image: Image.Image, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def main() -> None:
    """Draw what the command line asks for, and say how to train on it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "root", type=Path, help="folder of the data set; with --family all, of a folder for each family"
    )
    parser.add_argument("--family", choices=(*FAMILIES, "all"), default="smooth")
    parser.add_argument("--width", type=int, default=2000, help="of a photograph, in pixels")
    parser.add_argument("--height", type=int, default=1500)
    parser.add_argument("--train", type=int, default=60, help="normal training photographs")
    parser.add_argument("--test", type=int, default=30, help="normal test photographs")
    parser.add_argument("--each", type=int, default=6, help="test photographs of each diameter and contrast")
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn; also another board")
    asked = parser.parse_args()
    if min(asked.width, asked.height) < 4 * max(DIAMETERS):
        parser.error(
            f"--width and --height: at least {4 * max(DIAMETERS)}, since spots are up to {max(DIAMETERS)} pixels"
        )
    for family in FAMILIES if asked.family == "all" else (asked.family,):
        root = asked.root / family if asked.family == "all" else asked.root
        make(root, family, (asked.width, asked.height), asked.train, asked.test, asked.each, asked.seed)
        print(f"anomap-train data=folder data.root={root}")


if __name__ == "__main__":
    main()
