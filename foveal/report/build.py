"""report: run folders -> one page of evidence, a single HTML file that needs nothing else.

The page is made from the files of the runs alone: it does not need the images, a GPU or torch. It opens offline, and
prints. The same folders give the same page, byte for byte.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from foveal.config import check_paths
from foveal.console import say
from foveal.errors import FovealError
from foveal.files import write_text
from foveal.page.parts import Section
from foveal.page.render import page, section
from foveal.page.words import listed
from foveal.predict.cohort import folder_of
from foveal.report import making, pictures, quality, training
from foveal.report.evidence import Evidence, forebears, read_evidence
from foveal.report.findings import Finding, find
from foveal.report.operating import operating
from foveal.report.summary import summary
from foveal.report.travel import beside, is_comparison, read_cohort, travel

# Details behind the summary, the figures and the charts that carry it.
FOLDED = ("classes", "reliability", "stress", "doubts", "explanations", "missing", "data", "training",
          "pretraining", "provenance")  # fmt: skip
FOLDED_BESIDE = ("metrics", "misgraded")  # where several runs are compared
MOST_RUNS_PICTURED = 4  # with more runs, each shows fewer pictures, so that the page stays small enough to send


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Options of `foveal report`."""

    # Run folders; with several, each grader is compared with the first. Also folders of `foveal compare --hold-out`.
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN…")]
    # HTML file to write; by default report.html in the last run folder.
    out: Path | None = None
    # Write a page about this cohort, which `foveal evaluate RUN --on` has evaluated, and compare it with the test part.
    on: Path | None = None

    def __post_init__(self) -> None:
        check_paths(self.runs, "report RUN", "a run folder")
        if self.on and len(self.runs) > 1:
            raise FovealError("option.conflict", f"--on works with one run, got {len(self.runs)}")


def report(config: ReportConfig) -> Path:
    """Write one HTML page about one or more runs, or about a cohort; returns its path."""
    compared = [path for path in config.runs if is_comparison(path)]
    paths = [path for path in config.runs if path not in compared]
    folder = (paths or compared)[-1]
    out = config.out or (folder_of(folder, config.on) if config.on else folder) / "report.html"
    if out.is_dir():
        fix = f"give a file, such as {out / 'report.html'}"
        raise FovealError("output.is_folder", f"--out {out} is a folder", fix=fix)
    runs = [read_evidence(path) for path in paths]
    html = render_cohort(read_cohort(runs[0], config.on), runs[0]) if config.on else render_page(runs, compared)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, html)
    say(f"report: {out}")
    return out


def render_page(runs: Sequence[Evidence], compared: Sequence[Path] = ()) -> str:
    """The page as HTML. compared: folders of comparisons with sources held out, shown beside the runs or alone."""
    if not runs:
        names = listed([path.resolve().name for path in compared])
        only = made({"travel": travel([], [], compared)})
        return page(only, title=names, kind="Foveal report", subtitle="sources held out in turn")
    titles = [str(run.card["title"]) for run in runs if run.card]
    return page(sections(runs, compared), title=listed([run.name for run in runs]), kind="Foveal report",
                subtitle=runs[0].kind if len(runs) == 1 else f"comparison of {len(runs)} runs",
                about=" · ".join(filter(None, dict.fromkeys([*titles, *(run.day for run in runs)]))),
                footer="Made by Foveal, from the run folders alone.")  # fmt: skip


def render_cohort(cohort: Evidence, own: Evidence) -> str:
    """The page about a cohort that the run `own` has graded, as HTML."""
    findings = find([cohort])
    contents = made({"summary": summary([cohort], findings, cohort=True) | {"runs": [own]},
                     "cohort": beside(cohort, own), "versus": quality.versus(findings), **judged(findings),
                     "doubts": pictures.doubts([cohort])})  # fmt: skip
    return page(contents, title=f"{own.name} on {cohort.name}", kind="Foveal report", subtitle=own.kind,
                footer="Made by Foveal, from the run folder alone.")  # fmt: skip


def sections(runs: Sequence[Evidence], compared: Sequence[Path] = ()) -> list[Section]:
    """The sections that have content, in the order of the page."""
    findings = find(runs)
    graders = [run for run in runs if run.verb == "train"]
    before = {run.path: forebears(run) for run in runs}
    found = [one for run in runs for one in (run, *before[run.path])]
    everyone = list({run.path.resolve(): run for run in (*found, *runs)}.values())
    pretrainings = [run for run in everyone if run.verb == "pretrain"]
    most = int(pictures.MOST_PICTURES * min(1, MOST_RUNS_PICTURED / max(1, len(graders)))) or 1
    return made({
        "summary": summary(runs, findings),
        "comparison": quality.comparison(findings),
        "versus": quality.versus(findings),
        **judged(findings),
        "travel": travel(findings, graders, compared),
        "misgraded": pictures.worst_errors(graders, most),
        "doubts": pictures.doubts(graders),
        "explanations": pictures.explanations(graders, most),
        "missing": making.missing(findings, graders),
        "data": making.data(runs, before),
        "training": training.training(graders),
        "pretraining": training.pretraining(pretrainings, introduced=runs),
        "provenance": everyone,
        "limits": making.limits(runs, findings),
    }, FOLDED if len(runs) == 1 else (*FOLDED, *FOLDED_BESIDE))  # fmt: skip


def judged(findings: Sequence[Finding]) -> dict[str, Any]:
    """The contents of the sections about the images that were judged."""
    return {"metrics": quality.metrics(findings), "operating": operating(findings), "confusion": findings,
            "classes": quality.by_class(findings), "reliability": quality.reliability(findings),
            "subgroups": quality.subgroups(findings), "stress": quality.stress(findings)}  # fmt: skip


def made(contents: Mapping[str, Any], folded: Sequence[str] = FOLDED) -> list[Section]:
    """Sections from template -> what it shows: a dict, or a list of `runs`; those with nothing are left out."""
    found = [section(name, **({"runs": shown} if isinstance(shown, list) else shown))
             for name, shown in contents.items() if shown]  # fmt: skip
    return [replace(one, folded=one.name in folded) for one in found]
