"""What the machine tells about memory."""

import json
import subprocess
import sys

import pytest

SIZE = 1 << 28
PEAKS = f"""
import numpy as np
from foveal.hardware import give_back_memory, peak_memory, reset_peak_memory

reset_peak_memory()
peaks = [peak_memory()]
block = np.ones({SIZE}, np.uint8)
del block
give_back_memory()
peaks.append(peak_memory())
reset_peak_memory()
print(peaks + [peak_memory()])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the peak")
def test_the_peak_of_memory_counts_what_is_freed_again_until_it_is_reset():
    """In a process of its own: what other tests left in this one can be freed or swapped at any time."""
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True, timeout=120)
    before, with_block, after = json.loads(done.stdout)
    assert 0.9 * SIZE < with_block - before < 1.2 * SIZE
    assert after < before + 0.2 * SIZE
