"""Workers: grade on several machines of a Ray cluster, which all have the model and the photographs at the same paths.

Each worker (a Ray actor) has its own copy of the model. If one dies, it is restarted and its batch is graded again.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import pandas as pd

from foveal.predict.inputs import Photograph
from foveal.predict.model import BATCH
from foveal.predict.opened import open_model
from foveal.sets.jobs import ray_cluster

WAITING = 2  # batches queued per worker: the current one and the next


class Worker:
    """One process of a cluster with its own model, on a GPU if the cluster has any, else on one CPU core."""

    def __init__(self, path: Path, device: str, tta: str, gpu: bool) -> None:
        cv2.setNumThreads(1)
        if not gpu:
            with suppress(ImportError):  # exported models need no torch
                import torch

                torch.set_num_threads(1)
        self.model = open_model(path, device, tta, threads=0 if gpu else 1)

    def grade(self, photographs: list[Photograph]) -> pd.DataFrame:
        """The table of predictions for one batch."""
        return self.model.table_of_photographs(list(self.model.read(photographs)))


def tables_on_ray(photographs: Iterable[Photograph], path: Path, device: str, tta: str,
                  address: str) -> Iterator[pd.DataFrame]:  # fmt: skip
    """Tables of predictions in the order of the photographs; each batch is graded by one worker."""
    with ray_cluster(address) as ray:
        gpus, cores = int(ray.cluster_resources().get("GPU", 0)), int(ray.cluster_resources().get("CPU", 1))
        count = gpus or max(cores, 1)
        kind = ray.remote(Worker).options(num_cpus=1, num_gpus=1 if gpus else 0, max_restarts=5, max_task_retries=5)
        actors = [kind.remote(path.absolute(), device if gpus else "cpu", tta, bool(gpus)) for _ in range(count)]
        waiting, remaining, turns = deque[Any](), iter(photographs), cycle(actors)
        while batch := list(islice(remaining, BATCH)):
            shared = [replace(photograph, file=photograph.file.absolute()) for photograph in batch]
            waiting.append(next(turns).grade.remote(shared))
            if len(waiting) >= WAITING * count:
                yield ray.get(waiting.popleft())
        while waiting:
            yield ray.get(waiting.popleft())
