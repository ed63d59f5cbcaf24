"""Foveal: from a folder of fundus photographs to a grader whose quality is demonstrated.

The verbs of the command line are functions here: `foveal.prepare`, `foveal.pretrain`, and so on. `foveal.load` opens a
grader for use in a program. All of them raise `foveal.FovealError`.
"""

# isort: off
import os

# Threads of OpenMP that wait for each other spin long by default. Beside other work they then take the cores that the
# others need, and training was several times slower (benchmarks/waiting.py). torch reads this when it is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

from foveal.errors import FovealError
from foveal.signatures import signatures
from foveal.verbs import (
    adapt, audit, cluster, compare, correct, demo, document, embed, erase, evaluate, explain, export, inspect, load,
    monitor, predict, prepare, pretrain, probe, pseudolabel, report, select, serve, train, weights,
)  # fmt: skip
from foveal.version import VERSION

for _name, _signature in signatures().items():
    globals()[_name].__signature__ = _signature

__version__ = VERSION
__all__ = [
    "FovealError", "adapt", "audit", "cluster", "compare", "correct", "demo", "document", "embed", "erase", "evaluate",
    "explain", "export", "inspect", "load", "monitor", "predict", "prepare", "pretrain", "probe", "pseudolabel",
    "report", "select", "serve", "train", "weights",
]  # fmt: skip
