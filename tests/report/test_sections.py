"""Every section of the page: there with its data, with the very figures of the files, and not there without it."""

import json
import re
import shutil

import pandas as pd
import pytest

import foveal
from foveal.report.evidence import read_evidence
from foveal.report.findings import find
from foveal.report.operating import elsewhere, precision_here, threshold
from foveal.report.quality import by_column, kept, lowest_group, versus
from foveal.report.summary import doubts, verdicts

# section -> key of metrics.json, or file of the run, that it is made from; and figures that it must show
FROM_METRICS = {
    "operating": (
        "operating_points",
        ("83.2 %", "the grade", "87.6 %", "76.5–95.4 %", "65.4 %", "0.345", "33 with disease"),
    ),
    "reliability": ("reliability", ("0.051", "10.0", "91.2 %", "70.1 %", "60.0–80.0 %", "missed")),
    "subgroups": ("subgroups", ("Kowa", "0.432", "22 groups", "2 groups, few")),
    "stress": ("stress", ("57 photographs", "quality 80", "quality 30", "−0.269 worse", "23.4 %", "8 px")),
}
FROM_FILES = {
    "doubts": ("label_noise.csv", ("1 label", "0.95", "foveal correct ph")),
    "explanations": ("explain", ("31% of it is on the edge", "alarm")),
}  # fmt: skip


def section(page: str, name: str) -> str:
    """The words of one section, spaces as ordinary ones; empty where there is none."""
    start = page.find(f'<section id="{name}">')
    return "" if start < 0 else page[start : page.index("</section>", start)].replace("\N{NO-BREAK SPACE}", " ")


def change(run, **parts) -> None:
    """Replace parts of metrics.json; None takes one away."""
    result = json.loads((run / "metrics.json").read_text(encoding="utf-8")) | parts
    result = {key: value for key, value in result.items() if value is not None}
    (run / "metrics.json").write_text(json.dumps(result), encoding="utf-8")


def test_sections_show_the_figures_of_the_files_in_their_order(full_run, page_of):
    page = page_of(full_run)
    for name, (_, figures) in (FROM_METRICS | FROM_FILES).items():
        assert [figure for figure in figures if figure not in section(page, name)] == [], name
    assert "0.8125"[:5] in section(page, "metrics") and "0.123" in section(page, "metrics")
    assert section(page, "missing") == ""
    assert len(page) < 5 * 2**20 and "<script" not in page
    assert 'class="pair"' in section(page, "misgraded")
    assert section(page, "explanations").count("<img") == 1, "an overlay stands beside its picture, or here"
    order = ["summary", "metrics", "operating", "confusion", "classes", "reliability", "subgroups",
             "misgraded", "doubts", "explanations", "data", "training", "provenance", "limits"]  # fmt: skip
    places = [page.index(f'<section id="{name}">') for name in order]
    assert places == sorted(places)
    assert all(f'<a href="#{name}">' in page for name in order)


def test_without_its_data_a_section_is_not_there_and_the_way_to_it_is(full_run, page_of):
    change(full_run, operating_points=[], subgroups=[], stress=None, curves={}, reliability={})
    shutil.rmtree(full_run / "explain")
    (full_run / "label_noise.csv").unlink()
    page = page_of(full_run)
    for name in FROM_METRICS | FROM_FILES:
        assert section(page, name) == "" and f'href="#{name}"' not in page
    ways = section(page, "missing")
    assert all(f"foveal {verb}" in ways for verb in ("explain", "evaluate"))
    assert all(option in ways for option in ("--by flags", "--stress"))


@pytest.mark.slow
def test_doubted_images_are_shown_from_the_set_or_from_the_run(full_run, page_of, tmp_path):
    first = pd.read_csv(full_run / "misgraded.csv", keep_default_na=False).query("picture != ''")["id"].iloc[0]
    doubts = pd.read_csv(full_run / "label_noise.csv")
    doubts.assign(id=[first, "i1"], likely=[2, 0], label=1).to_csv(full_run / "label_noise.csv", index=False)
    assert section(page_of(full_run), "doubts").count('class="thumbnail"') == 1
    data = foveal.prepare("phantom:20", out=tmp_path / "ph", size=32)
    ids = pd.read_csv(data / "records.csv")["id"].iloc[:2]
    doubts.assign(id=ids, likely=[2, 0], label=1).to_csv(full_run / "label_noise.csv", index=False)
    options = (full_run / "config.toml").read_text(encoding="utf-8")
    (full_run / "config.toml").write_text(options.replace('"ph"', f'"{data}"'), encoding="utf-8")
    assert section(page_of(full_run), "doubts").count('class="thumbnail"') == 0, "another set than the run's"
    card = json.loads((full_run / "card.json").read_text(encoding="utf-8"))
    identity = json.loads((data / "card.json").read_text(encoding="utf-8"))["identity"]
    (full_run / "card.json").write_text(json.dumps(card | {"identity": identity}), encoding="utf-8")
    assert section(page_of(full_run), "doubts").count('class="thumbnail"') == 2


def test_hostile_words_of_other_verbs_are_escaped(full_run, page_of):
    evil = "<script>alert(1)</script>"
    table = pd.read_csv(full_run / "label_noise.csv", dtype=str, keep_default_na=False)
    table.assign(id=evil).to_csv(full_run / "label_noise.csv", index=False)
    explained = json.loads((full_run / "explain" / "explain.json").read_text(encoding="utf-8"))
    explained["images"][1]["id"] = evil
    (full_run / "explain" / "explain.json").write_text(json.dumps(explained), encoding="utf-8")
    figure = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    group = {"column": evil, "n": 9, "groups": 3, "small": False, "metrics": {"quadratic_kappa": figure}}
    groups = [group | {"value": value} for value in "ab"]
    change(full_run, subgroups=groups, operating_points_note=evil)
    page = page_of(full_run)
    assert "<script" not in page and page.count("&lt;script&gt;") > 5


def test_an_overlay_outside_the_folder_is_not_opened(full_run):
    run = read_evidence(full_run)
    assert run.heat_map({"overlay": "maps/0.jpg"}) is not None
    assert run.heat_map({"overlay": "../misgraded/00.jpg"}) is None
    assert run.heat_map({"overlay": None}) is None


def test_maps_that_failed_their_check_are_not_shown(full_run, page_of):
    file = full_run / "explain" / "explain.json"
    pictures = page_of(full_run).count("where the grader looked")
    explained = json.loads(file.read_text(encoding="utf-8"))
    explained["checks"] = {"gradcam": {"correlation": 0.8, "images": 12, "passed": False}}
    file.write_text(json.dumps(explained), encoding="utf-8")
    evidence = read_evidence(full_run)
    assert evidence.maps_failed and evidence.explanation("i3") is None
    assert page_of(full_run).count("where the grader looked") < pictures


def test_a_table_without_its_columns_is_refused(full_run, page_of, refuses):
    (full_run / "label_noise.csv").write_text("id\ni1\n", encoding="utf-8")
    with refuses("table.missing_column", full_run / "label_noise.csv", "label"):
        page_of(full_run)


def test_damaged_explanations_are_refused(full_run, page_of, refuses):
    (full_run / "explain" / "explain.json").write_text("{", encoding="utf-8")
    with refuses("file.damaged", full_run / "explain" / "explain.json"):
        page_of(full_run)


def test_elsewhere_is_arithmetic():
    known, unknown = ({"sensitivity": {"value": 0.9}, "specificity": {"value": value}} for value in (0.8, None))
    row = next(row for row in elsewhere(known) if row[0].startswith("10"))
    assert row[1:5] == ["270", "90", "10", "180"]
    assert elsewhere(unknown) == []


def answers(page: str) -> list[str]:
    """The answers in the summary."""
    return re.findall("<dd>(.*?)</dd>", section(page, "summary"), re.DOTALL)


def test_the_summary_answers_five_questions(full_run, page_of):
    groups = json.loads((full_run / "metrics.json").read_text(encoding="utf-8"))["subgroups"]
    better = {"quadratic_kappa": {**groups[0]["metrics"]["quadratic_kappa"], "value": 0.9}}
    change(full_run, subgroups=[*groups, {**groups[0], "value": "Canon", "metrics": better}])
    what, good, against, fails, trust = answers(page_of(full_run))
    assert "Epoch 2 of 3" in what and "83 % (77–95 %) of 40 images" in good
    assert "0.84" in against and "camera = Kowa" in fails and "0.43" in fails and "Do not use" in trust


def test_agreement_of_readers_is_shown_with_its_interval(full_run, page_of):
    about = json.loads((full_run / "metrics.json").read_text(encoding="utf-8"))["about"]
    readers = {"value": 0.8, "low": 0.71, "high": 0.92, "n": 33, "column": "second"}
    change(full_run, about=about | {"inter_rater": readers})
    assert "0.80 (0.71–0.92), measured on 33 images" in answers(page_of(full_run))[2]


def test_one_large_group_alone_is_no_weak_one(full_run):
    assert lowest_group(find([read_evidence(full_run)])[0]) is None


def test_points_lie_on_the_curve_whatever_prevalence_was_told(full_run, page_of):
    result = json.loads((full_run / "metrics.json").read_text(encoding="utf-8"))
    point = result["operating_points"][1]
    point["positive_predictive_value"] |= {"value": 0.1, "prevalence": 0.05}
    assert precision_here(point) == pytest.approx(0.8765 * 40 / (0.8765 * 40 + (1 - 0.6543) * 20))
    change(full_run, operating_points=[point])
    assert "here 5 %, given" in section(page_of(full_run), "operating")


@pytest.mark.parametrize(("value", "text"), [(1.4, "refers none"), (-0.3, "refers all"), (0.25, "0.250")])
def test_a_threshold_that_no_score_can_pass_is_said_in_words(value, text):
    assert threshold({"name": "Youden", "threshold": value}) == text


def test_the_gallery_goes_by_corrected_labels(full_run, page_of):
    before = section(page_of(full_run), "misgraded")
    first = pd.read_csv(full_run / "misgraded.csv").iloc[0]
    table = pd.read_csv(full_run / "predictions.csv")
    table.loc[table["id"] == first["id"], "label"] = first["grade"]
    table.to_csv(full_run / "predictions.csv", index=False)
    (full_run / "metrics.json").unlink()
    after = section(page_of(full_run), "misgraded")
    assert "6 of 60 test images" in before and "5 of 60 test images" in after
    assert f"Image {first['id']}:" in before and f"Image {first['id']}:" not in after


def test_few_groups_and_leaks_forbid_trust(full_run):
    about = json.loads((full_run / "metrics.json").read_text(encoding="utf-8"))["about"]
    change(full_run, about=about | {"groups": 12})
    (full_run / "seen.csv").write_text("sha256,id,set\n0,i3,ph\n", encoding="utf-8")
    evidence = read_evidence(full_run)
    found = doubts(find([evidence])[0])
    assert len(found) == 2 and "12 groups" in found[1] and "learned from" in found[0]


@pytest.mark.slow
def test_mcnemar_is_shown(tmp_path, write_grader, page_of):
    runs = write_grader(tmp_path / "worse", right=0.4), write_grader(tmp_path / "better", right=0.95)
    text = section(page_of(*runs), "comparison")
    assert "33 images" in text and "only worse on 0" in text and "0.001" in text


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.91, 0.99, ("met", "good")),
        (0.70, 0.99, ("cannot tell", "unsure")),  # 4 images, all held: 0.16 to 1
        (0.70, 0.89, ("missed", "bad")),
        (None, None, ("cannot tell", "unsure")),
    ],
)
def test_a_target_is_met_only_if_the_interval_shows_it(low, high, said):
    assert kept({"low": low, "high": high}, 0.9) == said


SOURCES = [
    {"source": name, "held_out": name == "south", "n": 50, "groups": 25, "small": name == "east",
     "metrics": {"quadratic_kappa": {"value": value, "low": 0.1, "high": 0.9, "n": 50, "noise": 0.1}}}
    for name, value in (("north", 0.7123), ("east", 0.6123), ("south", 0.3123))
]  # fmt: skip


def test_it_is_shown_how_a_grader_travels(full_run, write_grader, page_of, tmp_path):
    assert section(page_of(full_run), "travel") == ""
    change(full_run, sources=SOURCES)
    page = page_of(full_run)
    shown = section(page, "travel")
    assert all(word in shown for word in ("north", "0.712", "0.612", "0.312", "25 groups", "25 groups, few"))
    assert shown.count("(held out)") == 1
    assert "south" in section(page, "summary") and "0.31" in section(page, "summary")
    other = write_grader(tmp_path / "other", right=0.6)
    read_evidence(other)
    change(other, sources=[{**one, "held_out": False} for one in SOURCES[1:]])
    assert section(page_of(full_run, other), "travel").count("25 groups") == 5


def test_a_comparison_in_the_folder_of_a_run_is_shown(full_run, page_of):
    rows = []
    for init, difference in (("imagenet", ""), ("runs/simclr", 0.0456)):
        for trained, tested in (("all", "a"), ("all", "b"), ("all but a", "a"), ("all but a", "b"), ("all", "mean"),
                                ("all but the tested one", "mean")):  # fmt: skip
            unseen = trained != "all"
            rows.append({
                "init": init, "how": "probe", "labels": "10%", "share": 0.1, "trained_on": trained, "tested_on": tested,
                "metric": "quadratic_kappa", "value": 0.4321, "low": 0.3, "high": 0.5, "images": 30,
                "difference": difference, "difference_low": 0.01, "difference_high": 0.08,
                "answer": "better" if difference else "", "gap": -0.1234 if unseen else "", "gap_low": -0.2,
                "gap_high": -0.1, "gap_answer": "worse" if unseen else "",
            })  # fmt: skip
    (full_run / "compare").mkdir()
    pd.DataFrame(rows).to_csv(full_run / "compare" / "compare.csv", index=False)
    shown = section(page_of(full_run), "travel")
    assert all(word in shown for word in ("0.432", "−0.123 worse", "+0.046 better", "+0.010 to +0.080", "simclr"))
    assert shown.count("n = 30") == 8 and shown.count('class="abroad"') == 2
    other = full_run.with_name("travel")
    shutil.copytree(full_run / "compare", other)
    alone = page_of(other)
    assert (other / "report.html").is_file() and section(alone, "travel").count("n = 30") == 8
    both = page_of(full_run, other)
    assert section(both, "travel").count("n = 30") == 16 and section(both, "metrics")
    assert (full_run / "report.html").read_text(encoding="utf-8") == both
    plain = pd.DataFrame(rows).drop(columns=["trained_on", "tested_on"])  # without sources held out
    plain.to_csv(full_run / "compare" / "compare.csv", index=False)
    assert section(page_of(full_run), "travel") == ""


def test_sources_held_out_by_an_evaluation_are_held_out_on_the_page(write_grader, page_of, tmp_path):
    run = write_grader(tmp_path / "run")
    table = pd.read_csv(run / "predictions.csv")
    table["source"] = ["north" if n % 4 < 3 else "south" for n in range(len(table))]
    table.to_csv(run / "predictions.csv", index=False)
    foveal.evaluate(run, hold_out=("south",))
    page = page_of(run)
    assert section(page, "travel").count("(held out)") == 1 and "45 test images" in section(page, "summary")


def test_what_changed_since_an_older_grader_is_on_the_page(write_grader, tmp_path, page_of):
    old, new = (write_grader(tmp_path / name, right=right, count=300, scale="none")
                for name, right in (("older", 0.5), ("newer", 0.95)))  # fmt: skip
    assert section(page_of(new), "versus") == ""
    foveal.evaluate(new, versus=(old,))
    (entry,) = json.loads((new / "comparison.json").read_text())
    shown = section(page_of(new), "versus")
    assert entry["verdict"] == "better" and "newer" in shown and "older" in shown and str(tmp_path) not in shown
    for name in ("quadratic_kappa", "sensitivity", "specificity"):
        assert f"{entry['differences'][name]['value']:+.3f}" in shown, name
    for name in ("newly_referred", "no_longer_referred"):
        assert f"<td>{entry['changed'][name]['patients']}</td>" in shown
    rows = re.findall("<tr.*?</tr>", shown[shown.rindex("<table") :], re.DOTALL)
    assert len(rows) == 3 and {len(re.findall("<t[hd][ >]", row)) for row in rows} == {3}


def test_the_row_of_all_images_has_the_rates_of_the_rule_in_use(full_run):
    (finding,) = find([read_evidence(full_run)])
    groups = [{**group, "metrics": group["metrics"] | {"sensitivity": group["metrics"]["accuracy"]}}
              for group in finding.result["subgroups"]]  # fmt: skip
    shown = by_column(finding, groups)
    assert shown["rows"][0][shown["columns"].index("Sensitivity")].text == "0.832"


def test_a_verdict_names_its_figure_and_the_others_that_differ(write_grader, tmp_path, page_of):
    old, new = (write_grader(tmp_path / name, right=0.8, count=300, scale="none") for name in ("older", "newer"))
    table = pd.read_csv(new / "predictions.csv").assign(referable=1)
    table.to_csv(new / "predictions.csv", index=False)
    foveal.evaluate(new, versus=(old,))
    (entry,) = json.loads((new / "comparison.json").read_text())
    answers = {name: found["answer"] for name, found in entry["differences"].items()}
    assert (entry["verdict"], entry["figure"]) == ("cannot tell", "quadratic_kappa")
    assert (answers["sensitivity"], answers["specificity"]) == ("better", "worse")
    (shown,) = versus(find([read_evidence(new)]))["entries"]
    assert shown["figure"] == "quadratic kappa"
    assert [text.split()[0].lower() for text in shown["others"]] == ["sensitivity", "specificity"]
    assert all(text in section(page_of(new), "versus") for text in shown["others"])
    findings = find([read_evidence(old), read_evidence(new)])
    text = verdicts([finding.evidence for finding in findings], findings)[0].text
    assert [text.count(name) for name in ("sensitivity", "specificity", "ROC")] == [0, 0, 0]  # the same grades
    table.loc[0, "grade"] = 1 - table.loc[0, "grade"]
    table.to_csv(new / "predictions.csv", index=False)
    foveal.evaluate(new)
    findings = find([read_evidence(old), read_evidence(new)])
    text = verdicts([finding.evidence for finding in findings], findings)[0].text
    assert [text.count(name) for name in ("sensitivity", "specificity", "ROC")] == [1, 1, 0]


@pytest.mark.parametrize(("lost", "words"), [(1, "1 patient "), (2, "2 patients ")])
def test_one_patient_is_not_several(full_run, page_of, lost, words):
    share = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 40, "prevalence": 0.5}
    rates = ("sensitivity", "specificity", "positive_predictive_value", "negative_predictive_value")
    counts = {"patients": 30, "photographs": 60, "ungradable": 2, "insufficient": lost, "insufficient_positive": 0,
              "unknown_patient": 0, "referred": 0.5}  # fmt: skip
    change(full_run, patients=dict.fromkeys(rates, share) | counts)
    assert words in section(page_of(full_run), "operating")
