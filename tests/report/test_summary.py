"""The headline of a report: its verdict follows from the figures, by fixed rules."""

import json

import pandas as pd
import pytest

import foveal
from foveal.files import read_json
from foveal.report.evidence import read_evidence
from foveal.report.findings import find
from foveal.report.summary import headline
from foveal.report.travel import beside


def test_the_headline_is_not_yet_research_or_here(write_grader, tmp_path):
    def level(name, *, cohort=False, **options):
        (finding,) = find([read_evidence(write_grader(tmp_path / name, **options))])
        return headline(finding, cohort)

    good = level("good", right=0.95, count=600, scale="none")
    assert (good["level"], len(good["figures"]), good["reached"]) == ("research", 4, True)
    assert [one["name"] for one in good["figures"][:2]] == ["sensitivity", "specificity"]
    assert level("here", cohort=True, right=0.95, count=600)["level"] == "here"
    assert level("few", cohort=True, right=0.95, count=120)["level"] == "research"  # of 60 patients
    assert level("often wrong", cohort=True, right=0.7, count=600)["level"] == "research"
    useless = level("useless", cohort=True, right=0.0, count=600)
    assert useless["level"] == "not yet" and useless["doubts"]


def healthy(write_grader, run):
    """A run whose test part has healthy people only, with a specificity of 92 %."""
    write_grader(run, right=1, count=600, scale="none")
    table = pd.read_csv(run / "predictions.csv").assign(label=0, grade=0, referable=0, p0=0.8, p1=0.1, p2=0.1)
    wrong = table.index < 48
    table.loc[wrong, ["grade", "referable", "p0", "p1"]] = [1, 1, 0.1, 0.8]
    table.to_csv(run / "predictions.csv", index=False)
    return read_evidence(run)


def test_of_healthy_people_the_specificity_is_shown_and_no_kappa(write_grader, tmp_path, page_of):
    run = healthy(write_grader, tmp_path / "healthy")
    (finding,) = find([run])
    said = headline(finding, cohort=True)
    assert said["per_patient"] and said["level"] == "not yet" and said["constant"] is None
    figures = {one["name"]: one["value"] for one in said["figures"]}
    assert figures == {"specificity": pytest.approx(0.92), "accuracy": pytest.approx(0.92)}
    assert "92.0\N{NO-BREAK SPACE}%" in page_of(run.path)
    rows = {row[0]: row[1:] for row in beside(run, run)["rows"]}
    assert rows["Quadratic kappa"][0]["value"] is None
    assert rows["Specificity of referral, per photograph"][0].text == "92.0\N{NO-BREAK SPACE}%"
    assert finding.metrics["quadratic_kappa"]["value"] is None


@pytest.mark.parametrize("reviewed", [0, 41])
@pytest.mark.parametrize(("right", "count"), [(0.95, 600), (0.0, 600), (0.0, 40)])
def test_the_headline_has_three_reasons_at_most_and_reviews_are_among_them(
    write_grader, tmp_path, page_of, right, count, reviewed
):
    run = write_grader(tmp_path / "run", right=right, count=count, scale="none")
    result = read_json(foveal.evaluate(run))
    result["about"] |= {"reviewed": reviewed} if reviewed else {}
    (run / "metrics.json").write_text(json.dumps(result))
    shown = page_of(run)
    shown = shown[shown.index('<div class="headline') : shown.index('<div class="tiles">')]
    assert shown.count("<li>") == 3 and shown.count("41 of the ") == bool(reviewed)
