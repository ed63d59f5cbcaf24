"""The printed results of an evaluation: tables of metrics, and warnings, the most serious last."""

from collections.abc import Mapping
from typing import Any

from foveal.evaluate.operating import RATES
from foveal.evaluate.stress import limits
from foveal.page.render import print_template, told
from foveal.page.words import interval, number, percent, percent_with_interval, value_with_interval

SMALL_CLASS = 10  # images; with fewer, metrics of the class are unreliable
FEW_GROUPS = 30  # intervals from fewer groups are inaccurate (measured in docs/results.md)
DIFFERENT = 0.05  # of kappa or accuracy, between rules
FEW_POSITIVE = 20  # validation images; with fewer, every single one changes the threshold
PER_CLASS = ["precision", "recall", "f1", "auc", "average precision"]
RULES = ("quadratic_kappa", "accuracy")  # the figures of each rule


def show(result: Mapping[str, Any]) -> None:
    """Print the contents of metrics.json as tables; templates/results.txt lays them out."""

    def rates_of(found: Mapping[str, Any]) -> list[str]:
        return [*(percent_with_interval(found[key]) for key in RATES), percent(found["referred"])]

    def of_class(name: str) -> list[str]:
        return [value_with_interval(result["metrics"][f"{what} of {name}"]) for what in PER_CLASS]

    def of_part(one: Mapping[str, Any]) -> list[str]:
        # A line each for the value, its interval, and the number of images if it is not that of the subgroup.
        found = []
        for entry in one["metrics"].values():
            low = "" if entry["low"] is None else f"\n{interval(entry, 3)}"
            found.append(number(entry["value"], 3) + low + (f"\nn = {entry['n']}" if entry["n"] != one["n"] else ""))
        return found

    print_template("results.txt", result=result, rates_of=rates_of, of_class=of_class, of_part=of_part,
                   per_class=PER_CLASS, limits=limits)  # fmt: skip


def warnings(result: Mapping[str, Any]) -> list[str]:
    """Warnings about the results, the most serious last; templates/warnings.txt has the sentences."""
    said = told("warnings.txt", result=result, apart=_apart(result["decisions"]), small_class=SMALL_CLASS,
                chosen_on={point["target"]: point["chosen_positive"] for point in result["operating_points"]},
                few_groups=FEW_GROUPS, few_positive=FEW_POSITIVE,
                given=sum(map(any, zip(*result["confusion"], strict=True))))  # fmt: skip
    return [text for (text,) in said]


def _apart(rules: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Kappa or accuracy, where it depends on the rule by more than `DIFFERENT`: lowest, highest, and as given."""
    found = []
    for name in RULES if rules else ():
        values = sorted((figures[name]["value"] or 0.0, rule) for rule, figures in rules.items())
        if values[-1][0] - values[0][0] > DIFFERENT:
            found.append((name, values[0], values[-1], rules["given"][name]["value"] or 0.0))
    return found
