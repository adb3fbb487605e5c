"""Orders of batches: nothing lost, nothing twice, pure, and shared between ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomap.data.sampler import SequentialBatches, TrainBatches

COUNT, BATCH, RANKS = st.integers(1, 200), st.integers(1, 40), st.integers(1, 5)


@given(COUNT, BATCH, st.integers(0, 3), st.integers(0, 3))
def test_an_epoch_visits_every_sample_once(count: int, batch_size: int, seed: int, epoch: int) -> None:
    batches = TrainBatches(count, batch_size, seed)
    batches.set_epoch(epoch)
    visited = list(batches)
    assert sorted(np.concatenate(visited)) == list(range(count))
    assert len(visited) == len(batches)


@given(st.integers(2, 200), st.integers(2, 40), RANKS)
def test_batches_are_even_and_never_single(count: int, batch_size: int, world_size: int) -> None:
    sizes = [len(batch) for batch in TrainBatches(count, batch_size, world_size=world_size)]
    assert max(sizes) - min(sizes) <= 1
    # three left over with batch_size 2 stay together
    assert max(sizes) <= max(batch_size, 3 if world_size == 1 else 4)
    if count >= 2 * world_size:
        assert min(sizes) >= 2


def test_order_is_a_function_of_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int, before: int = 0) -> list[int]:
        batches = TrainBatches(50, 8, seed)
        for earlier in range(before):
            batches.set_epoch(earlier)
            list(batches)
        batches.set_epoch(epoch)
        return np.concatenate(list(batches)).tolist()

    assert order(0, 3) == order(0, 3, before=3)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@given(COUNT, BATCH, RANKS, st.integers(0, 3))
def test_training_ranks_take_equally_many_steps_and_see_every_sample_once(
    count: int, batch_size: int, world_size: int, epoch: int
) -> None:
    shards = []
    for rank in range(world_size):
        batches = TrainBatches(count, batch_size, 0, rank, world_size)
        batches.set_epoch(epoch)
        shards.append(list(batches))
        assert len(shards[-1]) == len(batches)
    assert len({len(shard) for shard in shards}) == 1
    sizes = [len(batch) for shard in shards for batch in shard]
    assert max(sizes) - min(sizes) <= 1
    assert sorted(index for shard in shards for batch in shard for index in batch) == list(range(count))


@given(st.integers(0, 200), BATCH, RANKS)
def test_scoring_ranks_cover_every_sample_exactly_once(count: int, batch_size: int, world_size: int) -> None:
    shards = [SequentialBatches(count, batch_size, rank, world_size) for rank in range(world_size)]
    seen = [index for shard in shards for batch in shard for index in batch]
    assert sorted(seen) == list(range(count))
    assert all(len(list(shard)) == len(shard) for shard in shards)


def test_scoring_keeps_the_stored_order() -> None:
    assert np.concatenate(list(SequentialBatches(10, 3))).tolist() == list(range(10))


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"), [(65, 64, [33, 32]), (3, 2, [3]), (3, 1, [1, 1, 1]), (1, 8, [1])]
)
def test_sizes(count: int, batch_size: int, sizes: list[int]) -> None:
    assert [len(batch) for batch in TrainBatches(count, batch_size)] == sizes


def test_at_most_so_many_are_spread_evenly_and_shared_among_the_ranks() -> None:
    chosen = np.concatenate(list(SequentialBatches(100, 3, at_most=10)))
    assert chosen.tolist() == list(range(0, 100, 10))
    shares = [np.concatenate(list(SequentialBatches(100, 3, rank, 2, at_most=10))) for rank in (0, 1)]
    assert sorted(np.concatenate(shares).tolist()) == chosen.tolist()
    assert len(np.concatenate(list(SequentialBatches(7, 3, at_most=10)))) == 7


def test_a_resumed_epoch_goes_on_after_the_batches_that_were_had() -> None:
    batches = TrainBatches(23, 4, seed=1)
    batches.set_epoch(2)
    whole = [batch.tolist() for batch in batches]
    batches.start = (2, 3)
    assert [batch.tolist() for batch in batches] == whole[3:]
    assert len(batches) == len(whole)
    batches.set_epoch(3)  # the next one is whole again
    assert len(list(batches)) == len(whole)
