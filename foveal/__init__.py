"""Foveal: from a folder of fundus photographs to a grader whose quality is demonstrated.

The verbs of the command line are functions here: `foveal.prepare`, `foveal.pretrain`, and so on. `foveal.load` opens a
grader for use in a program. All of them raise `foveal.FovealError`.
"""

# Some verbs share their name with a room. The rooms are imported first (they load little), so that the names end up as
# the functions below: `foveal.pretrain` is the verb, and `from foveal.pretrain.loop import …` still finds the room.
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
from foveal.errors import FovealError
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
from foveal.version import VERSION

__version__ = VERSION
__all__ = [
    "FovealError",
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
