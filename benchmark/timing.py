"""Rates measured side by side.

Every case runs once per round and the rounds are repeated, so that whatever else the machine does hits all cases alike; what
counts is the median over the rounds, of a rate or of a ratio within a round.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Clock = Callable[[], float]


@dataclass(frozen=True)
class Timed:
    """What a case did: so many things in so many seconds."""

    count: float
    seconds: float


Case = Callable[[], "float | Timed"]  # how many things were done; a `Timed` where the case holds the stopwatch itself


@dataclass(frozen=True)
class Rates:
    """Things per second: case -> one rate per round."""

    rounds: Mapping[str, list[float]]

    def median(self, case: str) -> float:
        """The rate of a case."""
        return statistics.median(self.rounds[case])

    def ratio(self, case: str, to: str) -> float:
        """How many times faster `case` is than `to`: the median of the rounds' own ratios, in which drift cancels."""
        return statistics.median(a / b for a, b in zip(self.rounds[case], self.rounds[to], strict=True))

    def spread(self, case: str) -> float:
        """(fastest - slowest round) / median: how far the numbers of this run may be trusted."""
        rates = self.rounds[case]
        return (max(rates) - min(rates)) / statistics.median(rates)


def interleaved(
    cases: Mapping[str, Case], rounds: int, clock: Clock = time.perf_counter, pause: Callable[[], None] | None = None
) -> Rates:
    """Run every case once to warm it up, then once per round.

    The order turns by one with each round: no case always follows the same other one.

    Args:
        cases: name -> work to time.
        rounds: how often.
        clock: seconds.
        pause: called before each case, outside its time.
    """
    found: dict[str, list[float]] = {name: [] for name in cases}
    names = list(cases)
    for number in range(-1, rounds):
        turn = max(number, 0) % len(names)
        for name in names[turn:] + names[:turn]:
            if pause is not None:
                pause()
            began = clock()
            done = cases[name]()
            timed = done if isinstance(done, Timed) else Timed(done, clock() - began)
            if number >= 0:
                found[name].append(timed.count / timed.seconds)
    return Rates(found)


def settle() -> None:
    """Let the threads of the last case go to sleep, and another process's; for `pause`."""
    time.sleep(0.3)


def repeated(call: Callable[[], object], times: int) -> Callable[[], float]:
    """A case that does something `times` times."""

    def run() -> float:
        for _ in range(times):
            call()
        return times

    return run


def latencies(call: Callable[[], object], times: int, clock: Clock = time.perf_counter) -> list[float]:
    """Seconds of each single call, ascending; the first call, which is not counted, warms up."""
    call()
    found = []
    for _ in range(times):
        began = clock()
        call()
        found.append(clock() - began)
    return sorted(found)


def percentile(ascending: list[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed (nearest rank)."""
    rank = -(-share * len(ascending) // 1)  # ceil
    return ascending[max(int(rank), 1) - 1]
