"""The tables for the terminal and the page, and what the numbers mean; no sentence claims more than its interval."""

from collections.abc import Iterable
from typing import Any

from foveal.cluster.look import NEIGHBOURS
from foveal.cluster.methods import CHECKED, NAMES
from foveal.cluster.neighbours import NEAREST
from foveal.page.parts import TONES, Shown, Table, Verdict, value_cell
from foveal.page.words import capital, counted, difference_with_interval, listed, number, value_with_interval

TITLES = {"accuracy": "matched accuracy", "purity": "purity", "nmi": "mutual information",
          "ari": "adjusted Rand index"}  # fmt: skip
FOLLOWED = ((0.6, "mostly", "good"), (0.2, "partly", "unsure"), (-1.0, "hardly", "bad"))  # adjusted Rand index from
MANY_RIGHT = 0.9  # accuracy of the votes; below it, most doubtful labels may be hard images rather than wrong labels


def tables(result: dict[str, Any]) -> list[Table]:
    """All tables; only the one of the maps if nothing was scored."""
    scored = [_clusters_table(result), _votes_table(result)] if result["looks"][0]["neighbours"] else []
    return [*scored, _maps_table(result)]


def _clusters_table(result: dict[str, Any]) -> Table:
    about, methods = result["about"], result["looks"][0]["methods"]
    rows: list[list[Shown]] = []
    for place, first in enumerate(methods):
        for one in result["looks"]:
            scores = one["methods"][place]["scores"]
            rows.append(_values(f"{first['name']} on {one['name']}", (scores[name] for name in TITLES)))
        rows += _differences(result, first["name"], TITLES)
    levels = methods[0]["scores"]
    rows.append(["random clusters", *(number(levels[name]["chance"]) for name in TITLES)])
    rows.append(["one single cluster", *(number(levels[name]["constant"]) for name in TITLES)])
    notes = [
        f"{about['clusters']} clusters, scored on {counted(about['judged'], 'labelled image')} in "
        f"{counted(levels['ari']['groups'], 'group')}; 95\N{NO-BREAK SPACE}% intervals of a bootstrap over groups. All "
        "images were clustered once: the intervals do not cover the variation between random starts.",
        "The first three measures grow with the number of clusters and are above 0 even for random clusters: compare "
        "with the row of random clusters.",
        *dict.fromkeys(f"{method['name']}: {method['note']}." for method in methods),
    ]
    return Table(caption="Clusters against labels", columns=["method", *TITLES.values()], rows=rows, notes=notes)


def _votes_table(result: dict[str, Any]) -> Table:
    first = result["looks"][0]["neighbours"]
    rows = [_values(one["name"], one["neighbours"].values()) for one in result["looks"]]
    rows += _differences(result, NEIGHBOURS, first)
    rows.append(["most common label for all", *(number(score["constant"]) for score in first.values())])
    scored = _images_in_groups(first["accuracy"])
    notes = [f"The {NEAREST} nearest labelled images of other groups vote. Scored on {scored}."]
    return Table(caption="Votes of the nearest images", columns=["neighbours by", *first], rows=rows, notes=notes)


def _maps_table(result: dict[str, Any]) -> Table:
    rows = [
        [NAMES[one["name"]], one["images"], number(one["kept"]), number(one["by_chance"], 3)] for one in result["maps"]
    ]
    notes = [f"Kept: share of the {CHECKED} nearest on the map that are among the {CHECKED} nearest in the features."]
    return Table(caption="Maps", columns=["map", "images", "kept", "by chance"], rows=rows, notes=notes)


def _values(name: str, scores: Iterable[dict[str, Any]]) -> list[Shown]:
    return [name, *(value_cell(score, 2) for score in scores)]


def _differences(result: dict[str, Any], of: str, measures: Iterable[str]) -> list[list[Shown]]:
    """The row of features minus pixels of one method; none without both."""
    found = {row["measure"]: row for row in result["differences"] if row["of"] == of}
    return [["features − pixels", *(found[name] for name in measures)]] if found else []


def _images_in_groups(score: dict[str, Any]) -> str:
    return f"{counted(score['n'], 'image')} in {counted(score['groups'], 'group')}"


def find(result: dict[str, Any]) -> list[Verdict]:
    """What the run learned from, then the results of neighbours, clusters and the comparison with pixels."""
    about = result["about"]
    found = [_basis(about)] if about["run"] else []
    if about["why_not"]:
        text = "Not measured: whether similar images have the same label."
        return [*found, Verdict(tone="unsure", text=text, grounds=f"{capital(about['why_not'])}.")]
    label = "grade" if about["ordered"] else "class"
    found += [_neighbours(result, label), _clusters(result, label)]
    return [*found, _compared(result)] if result["differences"] else found


def _basis(about: dict[str, Any]) -> Verdict:
    learned = about["learned"]
    text = f"The run learned from {learned:,} of {counted(about['images'], 'image')}"
    if about["taught"]:
        text += " or other images of their patients, with labels. These are not scored."
        grounds = "Their features reflect their labels, so the maps separate them better than new images."
        return Verdict(tone="unsure" if learned else "good", text=text, grounds=grounds)
    grounds = "The encoder was trained to tell these images apart; new ones may be less clearly separated."
    if not learned:
        grounds = "All scored images are new to the run."
    return Verdict(tone="good", text=f"{text}, without labels.", grounds=grounds)


def _neighbours(result: dict[str, Any], label: str) -> Verdict:
    one = result["looks"][0]
    name, score = next(iter(one["neighbours"].items()))
    grounds = (
        f"Votes of the nearest labelled images of other groups: {name} {value_with_interval(score)}; a constant answer "
        f"has {number(score['constant'])}. {_images_in_groups(score)}, compared by {one['name']}."
    )
    better = score["low"] is not None and score["low"] > score["constant"]
    text = f"The nearest images {'predict' if better else 'do not predict'} the {label} better than a constant answer."
    return Verdict(tone="good" if better else "bad", text=text, grounds=grounds)


def _clusters(result: dict[str, Any], label: str) -> Verdict:
    best = max(result["looks"][0]["methods"], key=lambda method: method["scores"]["ari"]["value"])
    score, matched = best["scores"]["ari"], best["scores"]["accuracy"]
    grounds = (
        f"The best method is {best['name']}: {TITLES['ari']} {value_with_interval(score)} (0 by chance). With the best "
        f"label for each cluster, the accuracy is {value_with_interval(matched)}; a single cluster has "
        f"{number(matched['constant'])}."
    )
    how, tone = next((how, tone) for least, how, tone in FOLLOWED if score["value"] >= least)
    perfect = score["low"] is None and tone == "good"  # all resamples are equal
    if not perfect and (score["low"] is None or score["low"] <= max(0.0, score["chance"])):
        return Verdict(tone="bad", text=f"No agreement between clusters and {label} was found.", grounds=grounds)
    return Verdict(tone=tone, text=f"Clusters {how} match the {label}.", grounds=grounds)


def _compared(result: dict[str, Any]) -> Verdict:
    votes = next(row for row in result["differences"] if row["of"] == NEIGHBOURS)
    by_method = [row for row in result["differences"] if row["measure"] == "ari"]
    texts = {name: f"The features are {name} than plain pixels" for name in ("better", "worse")}
    texts["cannot tell"] = "No difference is shown between the features and plain pixels"
    agree = all(row["answer"] == votes["answer"] for row in by_method)
    rest = "and every clustering" if agree else "but not for every clustering"
    text = f"{texts[votes['answer']]} for neighbours{' ' if agree else ', '}{rest}."
    named = [(votes, votes["measure"]), *((row, TITLES["ari"]) for row in by_method)]
    parts = [f"{row['of']}, {measure}: {difference_with_interval(row)}" for row, measure in named]
    tone = TONES[votes["answer"]] if agree else "unsure"
    return Verdict(tone=tone, text=text, grounds=f"Features minus pixels: {'; '.join(parts)}.")


def lead(result: dict[str, Any]) -> str:
    """What was compared, in two sentences."""
    about, one = result["about"], result["looks"][0]
    drawn = f", drawn at random from {about['of']:,}," if about["of"] > about["images"] else ""
    return (
        f"{counted(about['images'], 'image')}{drawn} in {counted(about['groups'], 'group')}, "
        f"{about['labelled']:,} of them labelled, compared by {one['source']} ({one['dimensions']:,} numbers per "
        f"image). Clusters and maps use {counted(one['components'], 'principal component')} with "
        f"{one['variance']:.0%} of the variance."
    )


def beside_maps(result: dict[str, Any]) -> str:
    """How well the maps preserve neighbours, and how well neighbours predict labels."""
    kept = listed([f"{NAMES[one['name']]} {one['kept']:.0%}" for one in result["maps"]])
    text = f"Share of the ten nearest neighbours that each map keeps: {kept}."
    scores = result["looks"][0]["neighbours"]
    if not scores:
        return text
    said = listed([f"{name} {value_with_interval(one)}" for name, one in scores.items()])
    return (
        f"{text} In all dimensions, the ten nearest labelled images predict the label with {said}. Rely on this "
        "number, not on the map."
    )


def beside_doubts(result: dict[str, Any]) -> str:
    """How many labels the neighbours contradict, and how often they are right."""
    text = f"The neighbours contradict {counted(result['doubtful'], 'label')}; doubtful.csv lists them."
    right = result["looks"][0]["neighbours"].get("accuracy")
    if right is None:
        return f"{text} How often neighbours are right was not measured."
    hard = ", so many of these may be hard images rather than wrong labels" if right["value"] < MANY_RIGHT else ""
    return f"{text} Neighbours are right on {right['value']:.0%} of the scored images{hard}."
