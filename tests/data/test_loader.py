import threading

import numpy as np
import pytest
import torch

import foveal
from foveal.data import loader
from foveal.data.leaks import pool_of, read_seen, refuse_seen, write_seen
from foveal.data.loader import ImageStore, epoch_batches, prefetch, shard_of, step_generator
from foveal.data.records import PreparedSet, open_prepared
from foveal.data.shards import ShardWriter


def test_a_shard_is_an_ordinary_array_whatever_its_number_of_rows(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), dtype=np.uint8)
    with ShardWriter(tmp_path, (4, 4, 3), rows_per_shard=3) as writer:
        places = [writer.append(image) for image in images]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]
    arrays = [np.load(file, mmap_mode="r") for file in sorted(tmp_path.glob("*.npy"))]
    assert np.array_equal(np.concatenate(arrays), images)


def test_a_shard_refuses_another_shape(tmp_path):
    with ShardWriter(tmp_path, (4, 4, 3)) as writer, pytest.raises(ValueError, match="expected uint8"):
        writer.append(np.zeros((4, 4, 1), np.uint8))


@pytest.mark.parametrize("resident", [0, 1 << 30])
def test_images_come_in_the_order_asked(phantom_set, monkeypatch, resident):
    monkeypatch.setattr(loader, "RESIDENT_BYTES", resident)
    prepared = open_prepared(phantom_set)
    records = prepared.part("train", "unlabelled")
    store = ImageStore([(prepared, records), (prepared, records.head(3))])
    index = np.array([5, 0, len(records) + 2])
    expected = prepared.pixels(records.iloc[[5, 0, 2]])
    assert len(store) == len(records) + 3 and np.array_equal(store.gather(index), expected)


def test_sets_of_different_size_do_not_mix(tmp_path, phantom_set):
    other = open_prepared(foveal.prepare("phantom:4", out=tmp_path / "set", size=16))
    first = open_prepared(phantom_set)
    with pytest.raises(ValueError, match="has 16 px images.*prepare both with the same --size"):
        ImageStore([(first, first.records), (other, other.records)])


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
    items = prefetch(iter(int, 1))
    assert next(items) == 0
    items.close()
    assert not any(thread.name == "foveal-prefetch" for thread in threading.enumerate())


def test_test_images_that_were_learned_from_are_refused_by_name(phantom_set, tmp_path, capsys):
    prepared = open_prepared(phantom_set)
    judged = prepared.part("test")
    seen = {judged["sha256"].iloc[0]}
    with pytest.raises(ValueError, match=f"1 validation or test images .*{judged['id'].iloc[0]} .test.*--allow-leaks"):
        refuse_seen(prepared, seen, "the pool", allow=False)
    refuse_seen(prepared, seen, "the pool", allow=True)
    assert "warning" in capsys.readouterr().out
    refuse_seen(prepared, {"another"}, "the pool", allow=False)


def test_unlabelled_images_of_a_judged_patient_stay_out_of_the_pool(phantom_set, capsys):
    prepared = open_prepared(phantom_set)
    judged = prepared.part("test")["group"].iloc[0]
    records = prepared.records.copy()
    first = records.index[records["split"] == "unlabelled"][0]
    records.loc[first, "group"] = judged
    pool = pool_of(PreparedSet(prepared.path, records, prepared.card))
    assert (
        records.loc[first, "id"] not in set(pool["id"]) and len(pool) == len(prepared.part("train", "unlabelled")) - 1
    )
    assert "1 unlabelled images" in capsys.readouterr().out


def test_what_was_seen_is_handed_on(phantom_set, tmp_path):
    prepared = open_prepared(phantom_set)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write_seen(tmp_path / "a", [(prepared, prepared.part("unlabelled"))], "random")
    write_seen(tmp_path / "b", [(prepared, prepared.part("train"))], str(tmp_path / "a"))
    assert read_seen(str(tmp_path / "b")) == set(prepared.part("train", "unlabelled")["sha256"])
    assert read_seen("imagenet") == set()
