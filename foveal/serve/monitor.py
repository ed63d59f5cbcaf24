"""monitor: how often a server refers, cannot grade, gets unusual photographs and is overridden, week by week."""

from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

from foveal.config import check
from foveal.console import say, show_table, warn
from foveal.errors import FovealError
from foveal.files import check_file, write_text
from foveal.page.charts import Line, Panel
from foveal.page.parts import Cell, Html, Note, Part, Section, Table
from foveal.page.render import page, render, told
from foveal.page.words import counted, percent

SHOWN = 8  # weeks that are printed
TITLES = {
    "referral": "Referred, of the graded photographs", "ungradable": "Ungradable, of the readable photographs",
    "unlike": "Unlike the training photographs", "override": "Overridden, of the reviews",
    "second grader differs": "Graded differently by the second grader",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """Options of `foveal monitor`."""

    # Database of a server: the file or URL that its --reviews names.
    database: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATABASE")]
    # Page to write (.html), with a chart of each rate.
    out: Path | None = None
    # Number of first weeks whose rates count as normal.
    baseline: int = 4

    def __post_init__(self) -> None:
        check(self, "baseline", self.baseline >= 1, "at least 1 week")


def monitor(config: MonitorConfig) -> pd.DataFrame:
    """Chart the rates of a server; returns a row for each rate, camera and week, with limits and `alarm`."""
    from foveal.serve.reviews import existing
    from foveal.serve.weeks import ALL, LEAST_UNITS, cases_of, charted

    if config.out is not None:
        check_file(config.out)
    with closing(existing(config.database)) as reviews, reviews.lines() as lines:
        cases = cases_of(lines)
    if cases.empty:
        raise FovealError("log.empty", f"the log of {config.database} has no answers yet")
    chart = charted(cases, config.baseline)
    _show(chart[chart["camera"] == ALL])
    found = told("alarms.txt", rows=chart[chart["alarm"]].to_dict("records"), limited=chart["low"].notna().any(),
                 baseline=config.baseline, patients=LEAST_UNITS)  # fmt: skip
    for verdict in found:
        (warn if verdict.tone == "bad" else say)(verdict.text)
    if config.out is not None:
        write_text(config.out, _page(chart, found, config))
        say(f"page: {config.out}")
    return chart


def _show(chart: pd.DataFrame) -> None:
    rates = chart["rate"].unique()
    marks = chart["alarm"].map({True: " !", False: ""})
    shown = chart.assign(text=[percent(share, 1) for share in chart["share"]] + marks)
    shown = shown.pivot(index="week", columns="rate", values="text")[rates].fillna("–")
    read = chart[chart["rate"] == "ungradable"].set_index("week")["count"].reindex(shown.index, fill_value=0)
    rows = [[week, f"{read[week]:,}", *shares] for week, *shares in shown.itertuples()]
    span = f"the last {SHOWN} of {len(rows)} weeks" if len(rows) > SHOWN else "weeks"
    show_table(f"{span} from Monday, all cameras", ["week", "photographs", *rates], rows[-SHOWN:])


def _page(chart: pd.DataFrame, verdicts: list[Part], config: MonitorConfig) -> str:
    weeks = counted(config.baseline, "week")
    lead = f"""The first {weeks} of a camera count as normal. A later week outside the limits (dashed) is an
        alarm: if nothing has changed, chance alone causes one in 370 weeks."""
    sections = [Section(name="alarms", title="Alarms", parts=[Note(lead, "lead"), *verdicts])]
    for rate, title in TITLES.items():
        rows = chart[chart["rate"] == rate]
        if len(rows):
            panels = [_panel(str(camera), part) for camera, part in rows.groupby("camera", sort=False)]
            drawn = Html(render("monitor.html", panels=panels))
            sections.append(Section(name=rate.replace(" ", "-"), title=title, parts=[drawn, _table(rows)], short=rate))
    first, last = chart["week"].min(), chart["week"].max()
    return page(sections, title="Weekly rates of a grader", kind="Foveal monitor", subtitle=f"{first} to {last}")


def _panel(camera: str, rows: pd.DataFrame) -> Panel:
    days = [date.fromisoformat(week) for week in rows["week"]]
    weeks = [(day - days[0]).days // 7 + 1 for day in days]
    lines = [Line(label="rate", x=weeks, y=rows["share"].tolist(), dotted=True)]
    for name, label in (("low", "limits"), ("high", "")):
        if rows[name].notna().any():
            lines.append(Line(label=label, look="dashed muted", x=weeks, y=rows[name].tolist()))
    return Panel(title=camera, x_label=f"week, from {days[0]}", lines=lines, share=True)


def _table(rows: pd.DataFrame) -> Table:
    shown = []
    for row in rows.iloc[::-1].to_dict("records"):
        limits = "–" if pd.isna(row["low"]) else f"{percent(row['low'], 1)} to {percent(row['high'], 1)}"
        share = Cell(text=percent(row["share"], 1), tone="bad" if row["alarm"] else "")
        shown.append([row["week"], row["camera"], row["count"], row["patients"], share, limits])
    counted_ones = "reviews" if rows["rate"].iloc[0] == "override" else "photographs"
    return Table(columns=["week", "camera", counted_ones, "patients", "rate", "limits"], rows=shown)
