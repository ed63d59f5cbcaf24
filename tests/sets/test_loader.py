import threading

import numpy as np
import pytest
import torch

from foveal.sets import loader
from foveal.sets.loader import ImageStore, epoch_batches, prefetch, shard_of, step_generator
from foveal.sets.records import open_prepared


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_images_come_in_the_order_asked(phantom_set, monkeypatch, memory):
    monkeypatch.setattr(loader, "free_memory", lambda: memory)
    prepared = open_prepared(phantom_set)
    records = prepared.part("train", "unlabelled")
    store = ImageStore([(prepared, records), (prepared, records.head(3))])
    index = np.array([5, 0, len(records) + 2])
    expected = prepared.pixels(records.iloc[[5, 0, 2]])
    assert len(store) == len(records) + 3 and np.array_equal(store.gather(index), expected)


def test_images_on_the_device_are_those_in_memory(phantom_set):
    prepared = open_prepared(phantom_set)
    store = ImageStore([(prepared, prepared.records)])
    index = np.array([7, 0, 59, 7])
    assert isinstance(store.take(index), np.ndarray)
    store._on_device = store._copy_to(torch.device("cpu"), rows=16)
    assert isinstance(store.take(index), torch.Tensor)
    assert np.array_equal(store.take(index).numpy(), store.gather(index))


def test_an_epoch_is_a_permutation_that_seed_and_epoch_decide():
    batches = epoch_batches(10, 4, seed=1, epoch=2, drop_last=False)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(np.concatenate(batches)) == list(range(10))
    assert len(epoch_batches(10, 4, 1, 2, drop_last=True)) == 2
    assert np.array_equal(batches[0], epoch_batches(10, 4, 1, 2, drop_last=False)[0])
    assert not np.array_equal(batches[0], epoch_batches(10, 4, 1, 3, drop_last=False)[0])


def test_processes_share_a_batch_without_overlap():
    batch = np.arange(12)
    assert np.concatenate([batch[shard_of(batch, rank, 3)] for rank in range(3)]).tolist() == batch.tolist()


def test_step_generators_differ_by_step_and_seed():
    draws = {(seed, step): torch.rand(4, generator=step_generator(seed, step)) for seed in (0, 1) for step in range(3)}
    assert len({tuple(draw.tolist()) for draw in draws.values()}) == 6
    assert torch.equal(draws[1, 2], torch.rand(4, generator=step_generator(1, 2)))


def test_prefetch_keeps_order_and_raises_here():
    assert list(prefetch(range(20))) == list(range(20))

    def failing():
        yield 1
        raise OSError("disk gone")

    items = prefetch(failing())
    assert next(items) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(items)


def test_prefetch_ends_its_thread_when_it_is_left_early():
    before = set(threading.enumerate())
    items = prefetch(iter(int, 1))
    assert next(items) == 0 and set(threading.enumerate()) - before
    items.close()
    assert not set(threading.enumerate()) - before


def test_large_sets_are_shuffled_in_windows_of_shards(monkeypatch):
    monkeypatch.setattr(loader, "WINDOW_SHARDS", 2)
    shard_of_image = np.repeat(np.arange(6), 10)
    batches = epoch_batches(60, 8, 1, 2, drop_last=False, windows=shard_of_image)
    order = np.concatenate(batches)
    assert sorted(order) == list(range(60)) and not np.array_equal(order, np.arange(60))
    assert all(len(set(shard_of_image[order[start : start + 20]])) == 2 for start in (0, 20, 40))
    assert np.array_equal(order, np.concatenate(epoch_batches(60, 8, 1, 2, drop_last=False, windows=shard_of_image)))


def test_the_order_depends_on_the_set_not_on_the_memory_of_the_machine(phantom_set, monkeypatch):
    prepared = open_prepared(phantom_set)
    for memory in (0, 1 << 40):
        monkeypatch.setattr(loader, "free_memory", lambda memory=memory: memory)
        assert ImageStore([(prepared, prepared.records)]).windows is None
        monkeypatch.setattr(loader, "SHUFFLED_WHOLE", 100)
        assert set(ImageStore([(prepared, prepared.records)]).windows) == {0}
        monkeypatch.undo()
