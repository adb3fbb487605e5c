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
    mac = sys.platform == "darwin"
    screen = mac or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    viewer = shutil.which("open" if mac else "xdg-open")
    if not screen or viewer is None:
        return False
    subprocess.Popen([viewer, path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    return True
