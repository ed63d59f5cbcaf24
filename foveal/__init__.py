"""Foveal: from a folder of fundus photographs to a grader whose quality is shown, not claimed.

The verbs of the command line are functions here: `foveal.prepare`, `foveal.pretrain`, and so on.
`foveal.load` keeps a grader in memory for a program.
"""

# Some verbs share their name with the room that they live in. The rooms, which load little, are bound first, so that
# the functions below keep the names: afterwards `foveal.pretrain` is the verb, and
# `from foveal.pretrain.loop import …` still finds the room.
import foveal.cluster
import foveal.compare
import foveal.demo
import foveal.evaluate
import foveal.explain
import foveal.export
import foveal.inspect
import foveal.predict
import foveal.pretrain
import foveal.report
import foveal.serve
import foveal.train  # noqa: F401
from foveal.verbs import (
    cluster,
    compare,
    correct,
    demo,
    evaluate,
    explain,
    export,
    inspect,
    load,
    predict,
    prepare,
    pretrain,
    probe,
    pseudolabel,
    report,
    serve,
    train,
)

__version__ = "0.1.0"
__all__ = [
    "cluster",
    "compare",
    "correct",
    "demo",
    "evaluate",
    "explain",
    "export",
    "inspect",
    "load",
    "predict",
    "prepare",
    "pretrain",
    "probe",
    "pseudolabel",
    "report",
    "serve",
    "train",
]
