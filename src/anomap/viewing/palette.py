"""The colours of every figure and page: normal blue and abnormal orange, told apart by any colour vision."""

NORMAL = "#2b6cb0"
ABNORMAL = "#dd6b10"
THRESHOLD = "#1f2933"
INK = "#1f2933"
MUTED = "#697586"
GRID = "#e4e7eb"
CONTOUR = "#19e6e6"  # the one hue that `HEAT` never reaches
HEAT = "inferno"  # perceptually uniform: equal steps of anomaly look equal
MASK = "gray"  # of true masks: white is abnormal

CLASS_COLOURS = (NORMAL, ABNORMAL)  # by label
CLASS_NAMES = ("normal", "abnormal")


def of(label: str) -> str:
    """The colour of `normal` or `abnormal`."""
    return CLASS_COLOURS[CLASS_NAMES.index(label)]


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue (0 to 255) of `#rrggbb`."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue
