"""Two and four gloo processes give the losses and gradients of one, to the last digits."""

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from torch import nn

from foveal.losses.ntxent import infonce, ntxent
from foveal.losses.without_negatives import barlow_twins, vicreg
from foveal.nets.heads import ProjectionHead
from foveal.nets.layers import synchronise

pytestmark = pytest.mark.slow
N, D = 16, 5


def with_batch_statistics(a, b):
    torch.manual_seed(2)
    head = ProjectionHead(D, 7, 6, layers=3, batchnorm=True, last_batchnorm=True).double()
    synchronise(head)
    return ntxent(head(a), head(b), 0.2) + sum(
        float(m.running_var.sum()) for m in head.layers if hasattr(m, "momentum")
    )


def losses():
    return {
        "ntxent": lambda a, b, who: ntxent(a, b, 0.2),
        "ntxent, chunked": lambda a, b, who: ntxent(a, b, 0.2, tile=5),
        "masked": lambda a, b, who: ntxent(a, b, 0.2, who, "mask"),
        "masked, chunked": lambda a, b, who: ntxent(a, b, 0.2, who, "mask", 5),
        "supcon": lambda a, b, who: ntxent(a, b, 0.2, who, "positive"),
        "supcon, chunked": lambda a, b, who: ntxent(a, b, 0.2, who, "positive", 5),
        "infonce": lambda a, b, who: infonce(a, b, 0.2),
        "barlow_twins": lambda a, b, who: barlow_twins(a, b, 0.05),
        "vicreg": lambda a, b, who: vicreg(a, b, 25, 25, 1),
        "batch statistics": lambda a, b, who: with_batch_statistics(a, b),
    }


def found(rank, world):
    """Loss and gradient of a weight that all rows go through, as DistributedDataParallel averages them."""
    generator = torch.Generator().manual_seed(0)
    z1, z2 = torch.randn(2, N, D, generator=generator, dtype=torch.float64).unbind()
    who = torch.randint(5, (N,), generator=generator)
    z1, z2, who = (part.chunk(world)[rank] for part in (z1, z2, who))
    results = {}
    for name, loss in losses().items():
        torch.manual_seed(1)
        layer = nn.Linear(D, D, dtype=torch.float64)
        value = loss(layer(z1), layer(z2), who)
        value.backward()
        results[name] = torch.cat([value.detach()[None], layer.weight.grad.flatten()])
    return results


def work(rank, world, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    results = found(rank, world)
    for value in results.values():
        dist.all_reduce(value)
    if rank == 0:
        torch.save({name: value / world for name, value in results.items()}, f"{folder}/results.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, 4])
def test_many_processes_equal_one(world, tmp_path):
    command = [sys.executable, __file__, str(world), str(tmp_path)]
    processes = [subprocess.Popen([*command, str(rank)]) for rank in range(world)]
    assert [process.wait(timeout=120) for process in processes] == [0] * world
    many, one = torch.load(tmp_path / "results.pt"), found(0, 1)
    assert set(many) == set(one)
    for name, value in one.items():
        assert (many[name] - value).norm() / value.norm() < 1e-10, name


if __name__ == "__main__":
    work(int(sys.argv[3]), int(sys.argv[1]), sys.argv[2])
