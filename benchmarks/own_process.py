"""Runs a program in a process of its own and reads its result, so that measurements do not influence each other."""

import json
import subprocess
import sys
from typing import Any

# The peak is in KiB on Linux.
LAST = """
import json, resource
own, children = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
spent = {"gib": own.ru_maxrss / 2**20, "cpu": sum(each.ru_utime + each.ru_stime for each in (own, children))}
print("RESULT", json.dumps(result | spent))
"""


def result_of(program: str, *arguments: object, seconds: float = 3600) -> dict[str, Any]:
    """Run a program that sets `result`, a dictionary; returns it with `gib` and `cpu`.

    gib: the peak memory of the process. cpu: the processor time in seconds, with that of its finished child processes.
    If the program fails, this one ends with its output. An error is raised after `seconds`.
    """
    command = [sys.executable, "-c", program + LAST, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not lines:
        sys.exit(f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(lines[0].removeprefix("RESULT "))
    return found
