"""Runs a program in a process of its own and reads its result, so that measurements do not influence each other."""

import json
import subprocess
import sys
from typing import Any


def result_of(program: str, *arguments: object, seconds: float = 3600) -> dict[str, Any]:
    """Run a program that sets `result`, a dictionary; returns it with `gib`, the peak memory of the process.

    If the program fails, this one ends with its output. An error is raised after `seconds`.
    """
    last = (
        "\nimport json, resource\n"  # the peak is in KiB on Linux
        "print('RESULT', json.dumps(result | {'gib': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))"
    )
    command = [sys.executable, "-c", program + last, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not lines:
        sys.exit(f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(lines[0].removeprefix("RESULT "))
    return found
