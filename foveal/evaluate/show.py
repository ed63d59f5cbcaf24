"""The printed results of an evaluation: tables of metrics, and warnings, the most serious last."""

from collections.abc import Mapping, Sequence
from typing import Any

from foveal.console import say, show_table
from foveal.evaluate.operating import RATES
from foveal.evaluate.stress import limits
from foveal.page.render import sayings
from foveal.page.words import counted, difference_with_interval, interval, number, percent, value_with_interval
from foveal.page.words import percent_with_interval as share

SMALL_CLASS = 10  # images; with fewer, metrics of the class are unreliable
FEW_GROUPS = 30  # intervals from fewer groups are inaccurate (measured in docs/results.md)
DIFFERENT = 0.05  # of kappa or accuracy, between rules
FEW_POSITIVE = 20  # validation images; with fewer, every single one changes the threshold
PER_CLASS = ("precision", "recall", "f1", "auc", "average precision")
RULES = ("quadratic_kappa", "accuracy")  # the figures of each rule
CELLS = ("value", "95 % interval", "n")
RATE_COLUMNS = ("sensitivity", "specificity", "PPV", "NPV", "referred")


def show(result: Mapping[str, Any]) -> None:
    """Print the contents of metrics.json as tables."""
    about, groups = result["about"], result["subgroups"]
    _show_overall(result)
    rows = [[rule, *(value_with_interval(figures[name], 3) for name in RULES)]
            for rule, figures in result["decisions"].items()]  # fmt: skip
    _table("rules that turn the probabilities into grades", ["rule", "quadratic kappa", "accuracy"], rows)
    _show_points(result)
    for each in ("patient", "eye"):
        if people := result.get(f"{each}s"):
            _show_patients(people, each)
    title = "prediction sets: how often they contain the true grade, and how many grades they contain"
    title += f"; target coverage {percent(about['coverage'])} for each class" if "coverage" in about else ""
    rows = [[name, *_cells(entry)] for name, entry in result["sets"].items()]
    _table(title, ["figure", *CELLS], rows)
    rows = [[f"{task}: {name}", *_cells(entry), number(entry["constant"], 3)]
            for task, figures in result["second"].items() for name, entry in figures.items()]  # fmt: skip
    _table("second task", ["", *CELLS, "constant"], rows)
    rows = [[name, str(sum(counts)), *(value_with_interval(result["metrics"][f"{what} of {name}"])
             for what in PER_CLASS)] for name, counts in zip(about["classes"], result["confusion"], strict=True)
            ]  # fmt: skip
    _table("each class against the rest", ["class", "n", *PER_CLASS], rows)
    _show_groups("subgroups", [(f"{one['column']}: {one['value']}", one) for one in groups])
    sources = [(one["source"] + (" (held out)" if one["held_out"] else ""), one) for one in result.get("sources", [])]
    _show_groups("each source by itself", sources)
    if "stress" in result:
        _show_stress(result["stress"])
    if harm := result.get("harm"):
        say(f"harm index (mean weight per image): {value_with_interval(harm['index'], 3)}; if every image is graded "
            f"'{result['constant_answer']}': {number(harm['index']['constant'], 3)}")  # fmt: skip
        say(f"worst error: {harm['worst']}; all by weight in metrics.json\n")


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table after an empty line; nothing without rows."""
    if rows:
        say()
        show_table(title, columns, rows)


def _show_overall(result: Mapping[str, Any]) -> None:
    about = result["about"]
    title = f"{about['split']}: {counted(about['images'], 'image')} in {counted(about['groups'], 'group')}"
    rows = [[name, *_cells(entry), number(entry["constant"], 3), number(entry["noise"], 3)]
            for name, entry in result["metrics"].items() if " of " not in name]  # fmt: skip
    show_table(title, ["metric", *CELLS, "constant", "noise"], rows)
    say(f"constant: if every image is graded '{result['constant_answer']}', or has the class shares as probabilities")
    say("noise: a smaller difference between two separate evaluations is noise; --versus detects smaller ones")
    if readers := about.get("inter_rater"):
        say(f"agreement of two readers (column {readers['column']}): quadratic kappa "
            f"{value_with_interval(readers, 3)}, n = {readers['n']}")  # fmt: skip


def _show_points(result: Mapping[str, Any]) -> None:
    points = result["operating_points"]
    rows = [[f"{point['target']}, {point['name']}", _threshold(point["threshold"]), *_rates(point)] for point in points]
    shares = {point["target"]: point["positive_predictive_value"]["prevalence"] for point in points}
    title = "operating points: by the grade given"
    for point in [point for point in points if point["chosen_on"]][:1]:
        title += f", and by thresholds chosen on {counted(point['chosen_n'], 'image')} ({point['chosen_on']})"
    title += f"; prevalence: {', '.join(f'{target} {percent(value, 1)}' for target, value in shares.items())}"
    _table(title, ["", "threshold", *RATE_COLUMNS], rows)
    if "operating_points_note" in result:
        say(f"operating points: {result['operating_points_note']}")


def _show_patients(people: Mapping[str, Any], each: str) -> None:
    """Print the rates per patient or per eye."""
    counts = f"{counted(people[f'{each}s'], each)}, {counted(people['photographs'], 'photograph')}"
    if people["insufficient"]:
        counts += f"; {people['insufficient']} without a gradable photograph are left out"
    if people["unknown_patient"]:
        counts += f"; the patient of {counted(people['unknown_patient'], 'other photograph')} is unknown"
    title = f"referral per {each}, the worse {'eye' if each == 'patient' else 'photograph'} decides ({counts})"
    _table(title, ["", *RATE_COLUMNS], [["referable", *_rates(people)]])


def _rates(found: Mapping[str, Any]) -> list[str]:
    return [*(share(found[key]) for key in RATES), percent(found["referred"])]


def _show_groups(title: str, groups: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Print the metrics of each of the (name, entry of a subgroup)."""
    rows = [[f"{name}{' (small)' if one['small'] else ''}", str(one["n"]), str(one["groups"]),
             *(_of_part(entry, one["n"]) for entry in one["metrics"].values())] for name, one in groups]  # fmt: skip
    _table(title, ["", "n", "groups", *(groups[0][1]["metrics"] if groups else ())], rows)


def _show_stress(found: Mapping[str, Any]) -> None:
    """Print down to which image quality grades hold."""
    about, name = found["about"], next(iter(found["untouched"]))
    metric, rows = name.replace("_", " "), []
    for title, held, broken in limits(found):
        figures = ["–"] * 3
        if broken is not None:
            figures = [broken["words"], difference_with_interval(broken["differences"][name]), share(broken["changed"])]
        rows.append([title, held or "untouched only", *figures])
    photographs = counted(about["photographs"], "photograph")
    title = f"stress: {photographs} in {counted(about['groups'], 'group')}, altered in one way at a time"
    _table(title, ["", "grades hold to", "but not to", f"{metric} there", "grades changed there"], rows)
    untouched = f"{metric} ({number(found['untouched'][name]['value'], 3)} untouched)"
    say(f"grades hold if {untouched} falls by at most {about['margin']:g} or not beyond chance, and at most "
        f"{percent(about['most_changed'])} of the grades change, there and at all milder levels")  # fmt: skip


def warnings(result: Mapping[str, Any]) -> list[str]:
    """Warnings about the results, the most serious last; templates/warnings.txt has the sentences."""
    said = sayings(
        "warnings.txt", result=result, apart=_apart(result["decisions"]), small_class=SMALL_CLASS,
        few_groups=FEW_GROUPS, few_positive=FEW_POSITIVE, given=sum(map(any, zip(*result["confusion"], strict=True))),
        chosen_on={point["target"]: point["chosen_positive"] for point in result["operating_points"]},
    )  # fmt: skip
    return [text for (text,) in said]


def _apart(rules: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Kappa or accuracy, where it depends on the rule by more than `DIFFERENT`: lowest, highest, and as given."""
    found = []
    for name in RULES if rules else ():
        values = sorted((figures[name]["value"] or 0.0, rule) for rule, figures in rules.items())
        if values[-1][0] - values[0][0] > DIFFERENT:
            found.append((name, values[0], values[-1], rules["given"][name]["value"] or 0.0))
    return found


def _cells(entry: Mapping[str, Any]) -> list[str]:
    return [number(entry["value"], 3), interval(entry, 3), str(entry["n"])]


def _of_part(entry: Mapping[str, Any], n: int) -> str:
    """One line each for the value, its interval, and the number of images if that is not `n`."""
    low = "" if entry["low"] is None else f"\n{interval(entry, 3)}"
    return number(entry["value"], 3) + low + (f"\nn = {entry['n']}" if entry["n"] != n else "")


def _threshold(value: float | None) -> str:
    """The threshold, or `none` or `all` if it refers no image or every image."""
    if value is None:
        return "–"
    return "none" if value > 1 else "all" if value <= 0 else f"{value:.3f}"
