"""Weekly rates from the log: what counts, the limits, and the alarm when a rate changes."""

import json

import numpy as np
import pytest
from scipy.stats import binom

import foveal
from foveal.serve.log import Line
from foveal.serve.monitor import _show
from foveal.serve.reviews import open_reviews
from foveal.serve.weeks import ALL, cases_of, charted

ANSWER = {"kind": "answer", "camera": "A", "patient": "", "answer": "graded", "referable": False, "unlike": []}


def line(day, **values):
    return Line(0, f"{day}T10:00:00.000+00:00", json.dumps(values), "", "")


def answers(weeks, n, share, first=0, generator=None, **values):
    """n photographs in each of the weeks from 2026-01-05, of which a share is referred."""
    generator = generator or np.random.default_rng(0)
    return [
        line(f"2026-{1 + (4 + 7 * week) // 28:02d}-{1 + (4 + 7 * week) % 28:02d}", image=f"{first}-{week}-{k}",
             **ANSWER | {"referable": bool(generator.random() < share)} | values)
        for week in range(first, first + weeks) for k in range(n)
    ]  # fmt: skip


def test_what_counts_in_a_rate():
    lines = [
        line("2026-01-05", image="a", **ANSWER | {"referable": True}),
        line("2026-01-06", image="a", **ANSWER),  # the same photograph again: the last answer counts
        line("2026-01-11", image="b", **ANSWER | {"answer": "ungradable", "referable": None, "unlike": ["colour"]}),
        line("2026-01-07", image="c", **ANSWER | {"answer": "unreadable", "referable": None, "unlike": None}),
        line("2026-01-12", kind="review", image="a", reviewer="K", given=2, grade=2),
        line("2026-01-12", kind="review", image="a", reviewer="K", given=2, grade=3),
        line("2026-01-12", kind="review", image="a", reviewer="L", given=2, grade=2),
        line("2026-01-12", kind="second", image="a", key="k", agrees=False),
        line("2026-01-12", kind="second", image="b", key="k", error="server.busy"),
        line("2026-01-12", kind="erase", lines=[1]),
        Line(9, "2026-01-12T00:00:00", None, "", ""),
    ]
    cases = cases_of(lines)
    found = cases.groupby(["rate", "week"])["hit"].agg(["sum", "size"]).to_dict("index")
    assert found == {
        ("referral", "2026-01-05"): {"sum": 0, "size": 1},
        ("ungradable", "2026-01-05"): {"sum": 1, "size": 2},
        ("unlike", "2026-01-05"): {"sum": 1, "size": 2},
        ("override", "2026-01-12"): {"sum": 1, "size": 2},
        ("second grader differs", "2026-01-12"): {"sum": 1, "size": 1},
    }


def test_a_change_of_a_rate_is_an_alarm_and_the_limits_are_near_those_of_the_binomial():
    chart = charted(cases_of(answers(4, 500, 0.2) + answers(3, 200, 0.2, 4) + answers(1, 200, 0.45, 7)), 4)
    rows = chart[chart["rate"] == "referral"]
    assert rows["low"].isna().tolist() == [True] * 4 + [False] * 4 and set(rows["camera"]) == {ALL}
    assert rows["alarm"].tolist() == [False] * 7 + [True]
    expected = np.array([binom.ppf(q, 200, 0.2) / 200 for q in (0.00135, 0.99865)])
    assert abs(rows[["low", "high"]].to_numpy()[4] - expected).max() < 0.05
    assert (rows["high"] - rows["low"]).iloc[4] > expected[1] - expected[0]  # the baseline is uncertain, too


def test_chance_alone_rarely_alarms():
    generator, alarms = np.random.default_rng(1), 0
    for _ in range(40):
        chart = charted(cases_of(answers(4, 60, 0.2, 0, generator) + answers(10, 60, 0.2, 4, generator)), 4)
        alarms += int(chart[chart["rate"] == "referral"]["alarm"].sum())
    assert alarms <= 4  # of 400 weeks, at 1 in 370


def test_photographs_of_one_patient_count_as_one_in_the_limits():
    lines = answers(6, 200, 0.2)
    alone = charted(cases_of(lines), 4)
    pairs = [each._replace(content=json.dumps(each.values() | {"patient": f"{each.when}-{number // 2}"}))
             for number, each in enumerate(lines)]  # fmt: skip
    together = charted(cases_of(pairs), 4)
    assert together["patients"].tolist()[0] == 100 and together["share"].tolist() == alone["share"].tolist()
    assert (together["high"] - together["low"]).max() > 1.2 * (alone["high"] - alone["low"]).max()


def test_each_camera_has_its_own_limits():
    lines = answers(6, 60, 0.1) + answers(5, 60, 0.5, camera="B") + answers(1, 60, 0.0, 5, camera="B")
    chart = charted(cases_of([each._replace(content=json.dumps(each.values() | {"image": f"{number}"}))
                              for number, each in enumerate(lines)]), 4)  # fmt: skip
    alarms = chart[chart["alarm"] & (chart["rate"] == "referral")]
    assert set(chart["camera"]) == {ALL, "A", "B"} and "B" in set(alarms["camera"]) and "A" not in set(alarms["camera"])


@pytest.mark.parametrize("out", [None, "monitor.html"])
def test_the_log_of_a_server_is_charted(tmp_path, refuses, out):
    place = str(tmp_path / "reviews.sqlite")
    reviews = open_reviews(place)
    with refuses("log.empty"):
        foveal.monitor(place)
    reviews.log([ANSWER | {"image": f"{number}"} for number in range(40)])
    reviews.close()
    given = {} if out is None else {"out": tmp_path / out}
    chart = foveal.monitor(place, **given)
    assert chart["count"].tolist() == [40] * 3 and not chart["alarm"].any()
    if out is not None:
        page = (tmp_path / out).read_text()
        assert page.count("<svg") == 3 and 'class="verdict unsure"' in page and 'class="verdict good"' not in page
    with refuses("option.value"):
        foveal.monitor(place, baseline=0)


def test_of_many_weeks_the_last_are_printed_and_counted(capsys):
    _show(charted(cases_of(answers(11, 3, 0.2)), 4))
    printed = capsys.readouterr()
    assert "8 of 11" in printed.out + printed.err and "2026-01-05" not in printed.out + printed.err


def test_prometheus_counts_decisions_by_camera(browsing, photographs):
    client = browsing(reviews="none")
    client.post("/v1/grade", files={"images": ("0.jpg", photographs["0.jpg"])})
    lines = [text for text in client.get("/metrics").text.splitlines() if text.startswith("foveal_cases_total{")]
    assert len(lines) == 1 and 'camera="unknown"' in lines[0] and lines[0].endswith(" 1.0")
