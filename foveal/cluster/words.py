"""What the numbers mean, in plain words. No sentence claims more than its interval supports."""

from __future__ import annotations

from typing import Any

from foveal.cluster.look import NEIGHBOURS
from foveal.cluster.maps import NAMES
from foveal.cluster.tables import TITLES
from foveal.page.parts import Verdict
from foveal.page.words import counted, difference_with_interval, listed, number, value_with_interval

MOSTLY = 0.6
FOLLOWED = ((MOSTLY, "mostly", "good"), (0.2, "partly", "unsure"), (-1.0, "hardly", "bad"))  # adjusted Rand index from
MANY_RIGHT = 0.9  # accuracy of the votes; below it, most doubtful labels may be hard images rather than wrong labels
CANNOT_SHOW = (
    "Islands and gaps prove nothing: t-SNE and UMAP make them even from noise.",
    "The size and density of islands and the distances between them mean nothing in t-SNE and UMAP.",
    "A class that looks mixed may still be predictable: a map shows only two of many dimensions.",
    "Points of a class may be close because of a shared camera or patient.",
)


def find(result: dict[str, Any]) -> list[Verdict]:
    """What the run learned from, then the results of neighbours, clusters and the comparison with pixels."""
    about = result["about"]
    found = [_basis(about)] if about["run"] else []
    if about["why_not"]:
        text = "Not measured: whether similar images have the same label."
        return [*found, Verdict(tone="unsure", text=text, grounds=f"{about['why_not'].capitalize()}.")]
    found += [_neighbours(result), _clusters(result)]
    return [*found, _compared(result)] if result["differences"] else found


def _label(about: dict[str, Any]) -> str:
    return "grade" if about["ordered"] else "class"


def _basis(about: dict[str, Any]) -> Verdict:
    """Which of the images the run learned from."""
    learned, share = about["learned"], f"of {counted(about['images'], 'image')}"
    if about["taught"]:
        text = (
            f"The run learned from {learned:,} {share} or other images of their patients, with labels. These are "
            "not scored."
        )
        grounds = "Their features reflect their labels, so the maps separate them better than new images."
        return Verdict(tone="unsure" if learned else "good", text=text, grounds=grounds)
    text = f"The run learned from {learned:,} {share}, without labels."
    grounds = "The encoder was trained to tell these images apart; new ones may be less clearly separated."
    return Verdict(tone="good", text=text, grounds=grounds if learned else "All scored images are new to the run.")


def _neighbours(result: dict[str, Any]) -> Verdict:
    """Whether the nearest images predict the label better than a constant answer."""
    about, one = result["about"], result["looks"][0]
    name, score = next(iter(one["neighbours"].items()))
    grounds = (
        f"Votes of the nearest labelled images of other groups: {name} {value_with_interval(score)}; a "
        f"constant answer has {number(score['constant'])}. {score['n']:,} images in {score['groups']:,} groups, "
        f"compared by {one['name']}."
    )
    better = score["low"] is not None and score["low"] > score["constant"]
    text = f"The nearest images {'predict' if better else 'do not predict'} the {_label(about)} better than a constant "
    return Verdict(tone="good" if better else "bad", text=f"{text}answer.", grounds=grounds)


def _clusters(result: dict[str, Any]) -> Verdict:
    """How well the clusters match the classes, for the best method."""
    one, label = result["looks"][0], _label(result["about"])
    best = max(one["methods"], key=lambda method: method["scores"]["ari"]["value"])
    score, matched = best["scores"]["ari"], best["scores"]["accuracy"]
    grounds = (
        f"The best method is {best['name']}: {TITLES['ari']} {value_with_interval(score)} (0 by chance). With the best "
        f"label for each cluster, the accuracy is {value_with_interval(matched)}; a single cluster has "
        f"{number(matched['constant'])}."
    )
    if score["low"] is None and score["value"] >= MOSTLY:  # a perfect match: all resamples are equal
        return Verdict(tone="good", text=f"Clusters mostly match the {label}.", grounds=grounds)
    if score["low"] is None or score["low"] <= max(0.0, score["chance"]):
        return Verdict(tone="bad", text=f"No agreement between clusters and {label} was found.", grounds=grounds)
    how, tone = next((how, tone) for least, how, tone in FOLLOWED if score["value"] >= least)
    return Verdict(tone=tone, text=f"Clusters {how} match the {label}.", grounds=grounds)


def _compared(result: dict[str, Any]) -> Verdict:
    """Whether features are better than pixels, by neighbours and by clusters."""
    votes = next(row for row in result["differences"] if row["of"] == NEIGHBOURS)
    by_method = [row for row in result["differences"] if row["measure"] == "ari"]
    texts = {
        "better": "The features are better than plain pixels",
        "worse": "The features are worse than plain pixels",
        "cannot tell": "No difference is shown between the features and plain pixels",
    }
    agree = all(row["answer"] == votes["answer"] for row in by_method)
    text = (
        f"{texts[votes['answer']]} for "
        f"neighbours{' and every clustering' if agree else ', but not for every clustering'}."
    )
    tone = {"better": "good", "worse": "bad", "cannot tell": "unsure"}[votes["answer"]] if agree else "unsure"
    parts = [f"{row['of']}, {row['measure'] if row is votes else TITLES['ari']}: {difference_with_interval(row)}"
             for row in [votes, *by_method]]  # fmt: skip
    return Verdict(tone=tone, text=text, grounds=f"Features minus pixels: {'; '.join(parts)}.")


def lead(result: dict[str, Any]) -> str:
    """What was compared, in one sentence."""
    about, one = result["about"], result["looks"][0]
    drawn = f", drawn at random from {about['of']:,}," if about["of"] > about["images"] else ""
    return (
        f"{counted(about['images'], 'image')}{drawn} in {counted(about['groups'], 'group')}, "
        f"{about['labelled']:,} of them labelled, compared by {one['source']} ({one['dimensions']:,} numbers per "
        "image). "
        f"Clusters and maps use {one['components']} principal components with {one['variance']:.0%} of the variance."
    )


def beside_maps(result: dict[str, Any]) -> str:
    """How well the maps preserve neighbours, and how well neighbours predict labels."""
    kept = listed([f"{NAMES[one['name']]} {one['kept']:.0%}" for one in result["maps"]])
    text = f"Share of the ten nearest neighbours that each map keeps: {kept}."
    scores = result["looks"][0]["neighbours"]
    if scores:
        said = listed([f"{name} {value_with_interval(one)}" for name, one in scores.items()])
        text += (
            f" In all dimensions, the ten nearest labelled images predict the label with {said}. Rely on this "
            "number, not on the map."
        )
    return text


def beside_doubts(result: dict[str, Any]) -> str:
    """How many labels the neighbours contradict, and how often neighbours are right."""
    text = f"The neighbours contradict {counted(result['doubtful'], 'label')}; doubtful.csv lists them."
    right = result["looks"][0]["neighbours"].get("accuracy")
    if right is None:
        return f"{text} How often neighbours are right was not measured."
    hard = ", so many of these may be hard images rather than wrong labels" if right["value"] < MANY_RIGHT else ""
    return f"{text} Neighbours are right on {right['value']:.0%} of the scored images{hard}."
