"""From which size on damage is caught."""

import pytest

from anomap.viewing.estimate import EstimateTable, Line


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (((0, 5), (3, 5), (5, 5)), 10),
        (((3, 5), (2, 5), (5, 5)), 20),  # by luck at the smallest
        (((5, 5), (5, 5), (2, 5)), None),
        (((0, 0), (2, 4), (5, 5)), 10),  # none visible at the smallest
        (((5, 5), (0, 0), (0, 0)), 5),
        (((0, 0), (0, 0), (0, 0)), None),
    ],
)
def test_the_smallest_size_from_which_on_half_are_caught(
    counts: tuple[tuple[int, int], ...], expected: int | None
) -> None:
    line = Line("spot", "clear", 0.2, counts, None)
    assert EstimateTable((0.02, 0.04, 0.08), (5, 10, 20), (line,)).caught_from(line) == expected
    assert line.total == (sum(caught for caught, _ in counts), sum(of for _, of in counts))
