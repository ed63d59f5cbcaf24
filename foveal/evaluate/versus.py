"""Several tables of predictions against a baseline, in words and as files for programs.

    foveal evaluate RUN OTHER… --baseline OTHER

comparison.json   a list, an entry per pair: baseline, run, n, differences (name -> value, low, high, answer), mcnemar,
                  sentence
comparison.csv    the same, a row per pair and figure
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.console import say
from foveal.evaluate.difference import compare, describe
from foveal.files import write_json, write_text
from foveal.readout.scales import Scale

FILE = "comparison.json"


def against_baseline(
    tables: Mapping[str, pd.DataFrame], baseline: str, resamples: int, seed: int, scale: Scale
) -> list[dict[str, Any]]:
    """Every table but the baseline against it, on the labelled images that both hold; [] where it is alone.

    tables: name -> labelled rows as `read_predictions` gives them.
    """
    others = [name for name in tables if name != baseline]
    if not others:
        return []
    ordered = [tables[baseline], *(tables[name] for name in others)]
    made = compare(ordered, resamples, seed, scale.cuts.get("referable"))
    return [_entry(name, baseline, difference) for name, difference in zip(others, made, strict=True)]


def _entry(name: str, baseline: str, difference: dict[str, Any]) -> dict[str, Any]:
    figures = {key: entry for key, entry in difference.items() if key not in ("n", "mcnemar")}
    return {
        "baseline": baseline, "run": name, "n": difference["n"], "differences": figures,
        "mcnemar": difference["mcnemar"], "sentence": f"{name} against {baseline}: {describe(difference)}",
    }  # fmt: skip


def rows(comparison: list[dict[str, Any]]) -> pd.DataFrame:
    """The table that comparison.csv holds; McNemar's test, which is of the pair, stands in each of its rows."""
    return pd.DataFrame([
        {"baseline": one["baseline"], "run": one["run"], "figure": figure, "difference": entry["value"],
         "low": entry["low"], "high": entry["high"], "answer": entry["answer"], "n": one["n"],
         "only_baseline_right": one["mcnemar"]["only_first"], "only_run_right": one["mcnemar"]["only_second"],
         "mcnemar_exact": one["mcnemar"]["exact"], "mcnemar_mid_p": one["mcnemar"]["mid_p"]}
        for one in comparison for figure, entry in one["differences"].items()
    ])  # fmt: skip


def write_comparison(folder: Path, comparison: list[dict[str, Any]]) -> None:
    """Write comparison.json and comparison.csv into `folder`, and say each pair in a sentence."""
    write_json(folder / FILE, comparison)
    write_text((folder / FILE).with_suffix(".csv"), rows(comparison).to_csv(index=False, lineterminator="\n"))
    for one in comparison:
        test = one["mcnemar"]
        say(f"{one['sentence']} Right alone: {test['only_second']} and {test['only_first']} images, McNemar mid-p "
            f"{test['mid_p']:.3g}.")  # fmt: skip
    say(f"comparison: {folder / FILE}")
