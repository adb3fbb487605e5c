"""Opens a picture with what the system opens pictures with."""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def open_picture(path: Path) -> bool:
    """Open `path`, not waiting for the viewer; False where there is no screen or no viewer."""
    if sys.platform == "win32":
        os.startfile(path)
        return True
    if sys.platform == "darwin":
        viewer = shutil.which("open")
    else:
        screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        viewer = shutil.which("xdg-open") if screen else None
    if viewer is None:
        return False
    subprocess.Popen([viewer, path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    return True
