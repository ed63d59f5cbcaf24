"""Weeks: rates per week and camera from the log of a server, with the limits within which chance keeps them.

A rate is charted as a p-chart (Montgomery, Introduction to Statistical Quality Control). The first weeks are the
baseline. The limits of a later week are those that a rate like the baseline's exceeds in 1 of 370 weeks (three sigma),
from the beta-binomial predictive distribution with Jeffreys' prior, so few photographs give wide limits. Photographs of
one patient are alike: the limits count the patients.
"""

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import betabinom

from foveal.serve.log import Line

RATES = ("referral", "ungradable", "unlike", "override", "second grader differs")
TAIL = 0.00135  # of three sigma, on each side
LEAST_UNITS = 30  # patients of a baseline; with fewer there are no limits
ALL = "all cameras"
COLUMNS = ["rate", "camera", "week", "count", "patients", "share", "low", "high", "alarm"]


def cases_of(lines: Iterable[Line]) -> pd.DataFrame:
    """rate, week (its Monday), camera, image, patient and `hit` (bool) for all that counts in a rate. Of several
    answers about an image within a week, the last one counts; of several reviews, that of each reviewer."""
    rows, origins = dict[tuple[Any, ...], tuple[Any, ...]](), dict[str, tuple[str, str]]()
    for line in lines:
        day = date.fromisoformat(line.when[:10])
        values, week = line.values(), (day - timedelta(days=day.weekday())).isoformat()
        image = values.get("image", "")
        if values.get("kind") == "answer":
            origins[image] = values["camera"] or "unknown", values["patient"] or image
        camera, patient = origins.get(image, ("unknown", image))
        for rate, who, hit in _hits(values):
            rows[rate, week, image, who] = (rate, week, camera, image, patient, hit)
    return pd.DataFrame(list(rows.values()), columns=["rate", "week", "camera", "image", "patient", "hit"])


def _hits(values: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """(rate, who, hit) of each rate that a line counts in; who: the reviewer or grader, if there may be several."""
    kind = values.get("kind")
    if kind == "review":
        yield "override", values["reviewer"], values["grade"] != values["given"]
    elif kind == "second" and "agrees" in values:
        yield "second grader differs", values["key"], not values["agrees"]
    elif kind == "answer" and values["answer"] != "unreadable":
        yield "ungradable", "", values["answer"] == "ungradable"
        if values["referable"] is not None:
            yield "referral", "", values["referable"]
        if values["unlike"] is not None:
            yield "unlike", "", bool(values["unlike"])


def charted(cases: pd.DataFrame, baseline: int) -> pd.DataFrame:
    """A row of `COLUMNS` for each rate, camera and week; low, high (shares) are nan if there are no limits.

    cases: of `cases_of`. baseline: the number of weeks, from the first with cases of the rate and camera. `count`: of
    photographs or, for overrides, of reviews. `alarm`: whether the share of a later week is outside its limits.
    """
    rows = []
    for rate in RATES:
        found = cases[cases["rate"] == rate]
        cameras = list(found.groupby("camera"))
        for camera, part in [(ALL, found), *(cameras if len(cameras) > 1 else [])]:
            rows += [[rate, camera, *row] for row in _chart(part, baseline)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _chart(cases: pd.DataFrame, baseline: int) -> Iterator[list[Any]]:
    weeks = cases.groupby("week").agg(n=("hit", "size"), units=("patient", "nunique"), share=("hit", "mean"))
    first = cases[cases["week"].isin(weeks.index[:baseline])]
    units = first["patient"].nunique()
    hits = units * first["hit"].mean()
    for number, (week, n, unit, share) in enumerate(weeks.itertuples()):
        low = high = np.nan
        if number >= baseline and units >= LEAST_UNITS:
            expected = betabinom(unit, hits + 0.5, units - hits + 0.5)
            low, high = expected.ppf(TAIL) / unit, expected.ppf(1 - TAIL) / unit
        yield [week, n, unit, share, low, high, bool(share < low - 1e-12 or share > high + 1e-12)]
