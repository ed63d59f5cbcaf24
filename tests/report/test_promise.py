"""What the report says of a promised coverage: no more than the interval does."""

import pytest

from foveal.report.calibration import _kept


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.91, 0.99, ("kept", "good")),
        (0.70, 0.99, ("cannot tell", "unsure")),  # 4 images, all held: 0.16 to 1
        (0.70, 0.89, ("broken", "bad")),
        (None, None, ("cannot tell", "unsure")),
    ],
)
def test_a_promise_is_kept_only_where_the_interval_says_so(low, high, said):
    assert _kept({"low": low, "high": high}, 0.9) == said
