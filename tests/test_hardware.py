"""What the machine tells about memory."""

import sys

import numpy as np
import pytest

from foveal.hardware import give_back_memory, peak_memory, reset_peak_memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the peak")
def test_the_peak_of_memory_counts_what_is_freed_again_until_it_is_reset():
    size = 1 << 28
    reset_peak_memory()
    before = peak_memory()
    block = np.ones(size, np.uint8)
    del block
    give_back_memory()
    assert 0.9 * size < peak_memory() - before < 1.2 * size
    reset_peak_memory()
    assert peak_memory() < before + 0.2 * size
