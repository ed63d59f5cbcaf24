"""Findings that could mislead, worst first, and all tables, from the numbers of a summary; templates have the words."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from foveal.evaluate.show import SMALL_CLASS
from foveal.page.parts import SPLITS, Table, Verdict
from foveal.page.render import told
from foveal.page.words import counted, listed, number, percent

STRONG = 0.2  # strength of a shortcut (0 chance, 1 perfect): what many first graders reach
ALMOST = 0.8  # cues with this share of the strength of the strongest are named with it
SURELY_UNEVEN = 0.001  # p-value of a flag by class; low, because two eyes of a patient share flag and grade
MANY_FLAGGED = 0.05  # share of the images, also below
MANY_COPIES = 0.1
TONES = ("bad", "unsure", "good")
Share = tuple[float, str]  # of the images of a class, and its name


def find(sets: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]]) -> list[Verdict]:
    """All findings, of every set and across sets, worst first."""
    found: list[Verdict] = told(
        "misleading.txt", sets=sets, pairs=pairs, labelled=list(combinations(filter(any_labels, sets), 2)),
        any_labels=any_labels, strongest=strongest, uneven_flags=uneven_flags, small_classes=small_classes,
        small_class=SMALL_CLASS, strong=STRONG, many_copies=MANY_COPIES, many_flagged=MANY_FLAGGED,
    )  # fmt: skip
    return sorted(found, key=lambda verdict: TONES.index(verdict.tone))


def any_labels(one: dict[str, Any]) -> bool:
    """Whether any image of the set has a label."""
    return any(class_totals(one).values())


def class_totals(one: dict[str, Any]) -> dict[str, int]:
    """Labelled images of each class over all parts."""
    return {name: sum(part["per_class"].get(name, 0) for part in one["parts"].values()) for name in one["classes"]}


def strongest(probe: dict[str, Any]) -> str:
    """The strongest cue, and others that are almost as strong: `the width`, `the width and height`."""
    best = probe["cues"][0]["value"] - probe["chance"]
    near = [cue["name"] for cue in probe["cues"] if cue["value"] - probe["chance"] >= ALMOST * best][:3]
    words = {"border": "share of black border"} | {name: f"mean {name}" for name in ("red", "green", "blue", "grey")}
    return f"the {listed([words.get(name, name) for name in near])} of the picture"


def uneven_flags(one: dict[str, Any]) -> list[tuple[str, Share, Share]]:
    """Each flag that depends on the label, and the classes with the highest and the lowest share of it."""
    totals, found = class_totals(one), []
    for flag in one["flags"]:
        if flag["p"] is not None and flag["p"] < SURELY_UNEVEN:
            shares = [(flag["per_class"].get(name, 0) / n, name) for name, n in totals.items() if n]
            ends = (end(shares, key=lambda share: share[0]) for end in (max, min))
            found.append((flag["flag"], *ends))
    return found


def small_classes(one: dict[str, Any]) -> list[str]:
    """The classes with too few validation or test images, in words."""
    return [f"{counted(count, f'{word} image')} of “{name}”"
            for split, word in (("test", "test"), ("val", "validation"))
            for name, count in one["parts"].get(split, {}).get("per_class", {}).items()
            if count < SMALL_CLASS]  # fmt: skip


def tables_of(one: dict[str, Any]) -> list[Table]:
    """All tables about one set."""
    totals = {name: total for name, total in class_totals(one).items() if total}
    classes = one["classes"] if totals else []

    def counts_in(part: dict[str, Any]) -> list[int | None]:
        return [part["per_class"].get(name, 0) if part["per_class"] else None for name in classes]

    def shares(per_class: dict[str, int]) -> list[str]:
        return [percent(per_class.get(name, 0) / total, 1) for name, total in totals.items()]

    def spreads(colours: dict[str, Any]) -> list[str]:
        return [f"{number(mean, 1)} ± {number(deviation, 1)}" for mean, deviation in colours["channels"].values()]

    return told("set.txt", one=one, splits=SPLITS, classes=classes, labelled=list(totals), counts_in=counts_in,
                shares=shares, spreads=spreads)  # fmt: skip


def side_by_side(sets: Sequence[dict[str, Any]]) -> Table:
    """Several sets: their images, labels and scales."""
    return told("sets.txt", sets=sets, class_totals=class_totals, any_labels=any_labels)[0]


def of_pair(pair: dict[str, Any]) -> list[Table]:
    """Copies across two sets: by their parts, and the first of them, leaks first."""
    return told("pair.txt", pair=pair, splits=SPLITS)
