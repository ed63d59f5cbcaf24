"""The headline of a report: its verdict follows from the figures, by fixed rules."""

from foveal.report.evidence import read_evidence
from foveal.report.findings import find
from foveal.report.summary import headline


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
