"""Letters of any script in a figure: from whichever font of this machine has them."""

import functools

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text


def readable(name: str) -> str:
    """A file name as a figure can show it: what is no letter as `?`, a letter that no font here has as its escape."""
    shown = (letter if letter.isprintable() else "?" for letter in name)
    return "".join(
        letter if _font_with(letter) else letter.encode("ascii", "backslashreplace").decode() for letter in shown
    )


def set_fonts(figure: Figure) -> None:
    """Give the texts of a figure fonts that have their letters."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        names = {_font_with(letter) for letter in text.get_text() if letter.isprintable()} - {_base().name, None}
        if names:
            text.set(fontfamily=[_base().name, *sorted(filter(None, names))], fontweight="normal")


@functools.cache
def _base() -> font_manager.FontEntry:
    """The font of all figures."""
    path = font_manager.findfont(font_manager.FontProperties())
    return next(font for font in font_manager.fontManager.ttflist if font.fname == path)


@functools.cache
def _font_with(letter: str) -> str | None:
    """The name of a font that has a letter, of several the usual one."""
    usable = (
        font for font in font_manager.fontManager.ttflist if not font.name.startswith("Last Resort")
    )  # only boxes
    return next((font.name for font in (_base(), *usable) if _has(font.fname, letter)), None)


@functools.cache
def _has(path: str, letter: str) -> bool:
    try:
        return font_manager.get_font(path).get_char_index(ord(letter)) != 0
    except (OSError, RuntimeError, ValueError):  # a font of a kind that cannot be drawn here
        return False
