"""MVTec AD and data sets laid out like it: one folder layout per category.

Bergmann et al., "MVTec AD: a comprehensive real-world dataset for unsupervised anomaly detection", CVPR 2019.
    root/<category>/train/good, root/<category>/test/<good or defect>, root/<category>/ground_truth/<defect>
"""

import difflib
import os

from anomap.data.files import existing_folder, visible_folders
from anomap.data.layouts.folder import FolderLayout
from anomap.data.samples import Scan
from anomap.errors import UserError


class MVTecLayout:
    """A category of MVTec AD; names are relative to the category's folder.

    Args:
        root: the folder with the categories.
        category: one of them, such as `bottle`.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, category: str | None = None) -> None:
        self.root = root
        self.category = category

    def scan(self) -> Scan:
        """Find and label the samples; UserError as in `FolderLayout`, or for an unknown category."""
        root = existing_folder("root", self.root)
        categories = [folder.name for folder in visible_folders(root) if (folder / "train").is_dir()]
        if self.category not in categories:
            close = difflib.get_close_matches(str(self.category), categories, 1)
            hint = (
                f"did you mean {close[0]}?" if close else f"choose from {', '.join(categories) or 'none: no category'}"
            )
            raise UserError(f"data.category={self.category} is not a category of {root}: {hint}")
        return FolderLayout(root / self.category, normal_names=["good"]).scan()
