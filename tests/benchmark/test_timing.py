"""Rates by a known clock: what is timed, what is not, and what counts."""

import pytest

from benchmark.timing import Rates, Timed, interleaved, latencies, percentile, repeated


class Clock:
    """Stands still but for what cases add."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_every_case_runs_once_to_warm_up_and_once_per_round_in_turning_order() -> None:
    order: list[str] = []
    clock = Clock()

    def case(name: str) -> float:
        order.append(name)
        clock.now += 1
        return 1

    interleaved({name: lambda name=name: case(name) for name in "abc"}, 3, clock)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"


def test_a_rate_is_count_by_seconds_and_the_median_is_over_rounds_without_the_warm_up() -> None:
    clock, seconds = Clock(), iter([100.0, 1.0, 2.0, 40.0])

    def case() -> float:
        clock.now += next(seconds)
        return 10

    rates = interleaved({"case": case}, 3, clock)
    assert rates.rounds["case"] == [10.0, 5.0, 0.25]
    assert rates.median("case") == 5.0
    assert rates.spread("case") == pytest.approx((10 - 0.25) / 5)


def test_a_case_may_hold_the_stopwatch_itself_and_pauses_are_not_timed() -> None:
    clock = Clock()

    def pause() -> None:
        clock.now += 1000

    def own() -> Timed:
        clock.now += 7
        return Timed(count=6, seconds=2)

    def measured() -> float:
        clock.now += 2
        return 6

    rates = interleaved({"own": own, "measured": measured}, 2, clock, pause)
    assert rates.rounds == {"own": [3.0, 3.0], "measured": [3.0, 3.0]}


def test_a_ratio_is_taken_within_rounds_so_that_drift_cancels() -> None:
    rates = Rates({"a": [20.0, 2.0, 4.0], "b": [10.0, 1.0, 2.0]})
    assert rates.ratio("a", to="b") == 2.0
    assert rates.median("a") / rates.median("b") == 2.0
    drifting = Rates({"a": [30.0, 3.0, 1.0], "b": [10.0, 2.0, 0.5]})
    assert drifting.ratio("a", to="b") == 2.0
    assert drifting.ratio("b", to="a") == 0.5


def test_latencies_are_ascending_and_leave_the_first_call_out() -> None:
    clock, seconds = Clock(), iter([9.0, 3.0, 1.0, 2.0])

    def call() -> None:
        clock.now += next(seconds)

    assert latencies(call, 3, clock) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.001, 1.0)])
def test_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile([float(value) for value in range(1, 101)], share) == expected


def test_repeated_counts_what_it_did() -> None:
    calls: list[int] = []
    assert repeated(lambda: calls.append(1), 4)() == 4
    assert len(calls) == 4
