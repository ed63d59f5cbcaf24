"""Compare the time and peak memory that `foveal pretrain --plan` predicts with those of the run, and test `--budget`.

    python benchmarks/plan.py [--only resnet18:128:64 ...] [--images 1024] [--epochs 3] [--budget 2m]

Each measurement runs in a process of its own, on the same drawn photographs, with everything on auto. The time of a run
is that of the whole call, including its start. Peak memory is the most that the process used, including Python and
torch. The last numbers are the time that the plan took, and the share of the budget that a run with `--budget` took.
"""

import argparse
import json
import tempfile
from pathlib import Path

from own_process import result_of

from foveal.budget import seconds_of

CASES = ("tf_efficientnet_lite0:256:128", "tf_efficientnet_lite0:224:32", "resnet18:128:64", "small_conv:32:128")

PROGRAM = """
import sys, time
from pathlib import Path
import foveal
from foveal.pretrain import plan
from foveal.pretrain.plan import seconds_of_run

kind, folder, encoder, size, batch, epochs, budget = sys.argv[1:]
result = {}
def planned(feed, why, rehearsal):
    config = feed.config
    result["planned"] = seconds_of_run(
        config.epochs, feed.steps * config.batch_size, config.probe_every, rehearsal)
    result["memory"] = rehearsal.memory / 2**30
plan.show_plan = planned
options = {"plan": True} if kind == "plan" else {"budget": budget} if kind == "budget" else {}
began = time.perf_counter()
foveal.pretrain(Path(folder) / "set", out=Path(folder) / f"{kind}-{encoder}-{size}-{batch}", encoder=encoder,
                image_size=int(size), batch_size=int(batch), epochs=int(epochs), **options)
result["seconds"] = time.perf_counter() - began
"""


def main() -> None:
    """Print a line of JSON for each case."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--only", nargs="+", default=CASES, metavar="ENCODER:SIZE:BATCH")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--budget", default="2m")
    options = parser.parse_args()
    import foveal

    with tempfile.TemporaryDirectory() as folder:
        foveal.prepare(f"phantom:{options.images}", out=Path(folder) / "set", size=256, unlabelled=-1)
        for case in options.only:
            arguments = (folder, *case.split(":"), options.epochs, options.budget)
            plan, run, kept = (result_of(PROGRAM, kind, *arguments) for kind in ("plan", "run", "budget"))
            found = {
                "seconds planned": plan["planned"], "seconds taken": run["seconds"],
                "ratio of time": run["seconds"] / plan["planned"],
                "GiB planned": plan["memory"], "GiB used": run["gib"], "ratio of memory": run["gib"] / plan["memory"],
                "seconds to answer": plan["seconds"],
                "share of the budget used": kept["seconds"] / seconds_of(options.budget),
            }  # fmt: skip
            rounded = {what: round(value, 2) for what, value in found.items()}
            print(json.dumps({"case": case} | rounded), flush=True)


if __name__ == "__main__":
    main()
