"""What could mislead, in plain words, the gravest first; made from the numbers of a summary alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from foveal.evaluate.show import SMALL_CLASS
from foveal.page.parts import Verdict
from foveal.page.words import counted, listed, number, value_with_interval

STRONG = 0.2  # of a shortcut: as much of the way from chance to perfect as many a first grader gets
ALMOST = 0.8  # of the strongest cue: others that reach this much are named with it
SURELY_UNEVEN = 0.001  # p of a flag over the classes; small, for two eyes of a patient share flag and grade
MANY_FLAGGED = 0.05  # share of the images, as the next
MANY_COPIES = 0.1
TONES = ("bad", "unsure", "good")


def find(sets: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]]) -> list[Verdict]:
    """All findings: those across sets and of every set, sorted by how grave they are."""
    found = [*_scales(sets), *(across(pair) for pair in pairs), *(v for pair in pairs for v in same_patients(pair))]
    for one in sets:
        own = [_shortcut(one), *_copies(one), *_groups(one), *_flags(one), *_small_classes(one), *_rejected(one)]
        found += own if len(sets) == 1 else [_of(one, verdict) for verdict in own]
    return sorted(found, key=lambda verdict: TONES.index(verdict.tone))


def _of(one: dict[str, Any], verdict: Verdict) -> Verdict:
    return Verdict(tone=verdict.tone, text=f"{one['name']}: {verdict.text}", grounds=verdict.grounds)


def _shortcut(one: dict[str, Any]) -> Verdict:
    found, label = one["shortcut"], _label(one)
    if found["why_not"]:
        text = f"Whether the {label} can be guessed from the frame of a picture was not measured."
        return Verdict(tone="unsure" if any_labels(one) else "good", text=text, grounds=sentence(found["why_not"]))
    figures = f"{found['metric']} {value_with_interval(found)}, where chance is {number(found['chance'])}"
    cues, judged = listed([cue["name"] for cue in found["cues"]]), _judged(one)
    if not found["found"]:
        text = f"The {label} cannot be guessed from the frame of a picture better than by chance."
        luck = "" if found["luck"] is None else f" Labels dealt out at random reached up to {number(found['luck'])}."
        return Verdict(tone="good", text=text, grounds=f"From {cues}: {figures}, {judged}.{luck}")
    text = (
        f"The {label} can be guessed from {strongest(found)} with {figures}: a grader can reach this much without "
        f"looking at {'any lesion' if one['fundus'] else 'any shape'}."
    )
    alone = "; ".join(f"{cue['name']} {number(cue['value'])}" for cue in found["cues"][:4])
    together = f"All of {cues} together, " if len(found["cues"]) > 1 else ""
    grounds = f"{together}{judged}. Alone: {alone}."
    return Verdict(tone="bad" if found["strength"] >= STRONG else "unsure", text=text, grounds=sentence(grounds[:-1]))


def _judged(one: dict[str, Any]) -> str:
    found = one["shortcut"]
    drawn = f" drawn from {found['of']:,}" if found["of"] > found["n"] else ""
    text = (
        f"judged on {counted(found['n'], 'labelled image')}{drawn} in {counted(found['groups'], 'group')}, each time "
        "on groups that the probe had not learned from"
    )
    if one["without_group"] and one["fundus"]:
        text += " (images without a group are taken for patients of their own, which can flatter it)"
    return text


def strongest(probe: dict[str, Any]) -> str:
    """The strongest cue, with those that tell almost as much alone: `the width`, `the width and the height`."""
    best = probe["cues"][0]["value"] - probe["chance"]
    near = [cue["name"] for cue in probe["cues"] if cue["value"] - probe["chance"] >= ALMOST * best][:3]
    words = {"border": "share of black border", "red": "mean red", "green": "mean green", "blue": "mean blue",
             "grey": "mean grey"}  # fmt: skip
    return f"the {listed([words.get(name, name) for name in near])} of the picture"


def any_labels(one: dict[str, Any]) -> bool:
    """True when any image of the set has a label."""
    return any(part["per_class"] for part in one["parts"].values())


def _copies(one: dict[str, Any]) -> list[Verdict]:
    copies, found = one["copies"], []
    if copies["torn"]:
        text = f"{counted(copies['torn'], 'pair')} of copies stand on two sides of the split."
        grounds = "Results on them would be too good. Prepare the set again."
        found.append(Verdict(tone="bad", text=text, grounds=grounds))
    if copies["conflicts"]:
        many, first = copies["conflicts"], copies["listed"][0]
        text = f"{counted(many, 'pair')} of copies {'has' if many == 1 else 'have'} different labels."
        grounds = (
            "One label of a pair is wrong, or the eye has changed between two photographs: "
            f"{first['id']} is “{first['grade']}”, {first['other']} is “{first['other_grade']}”."
        )
        found.append(Verdict(tone="bad", text=text, grounds=grounds))
    if copies["pairs"] and not copies["torn"]:
        share = copies["images"] / one["images"]
        text = f"{counted(copies['pairs'], 'pair')} of copies, none of them on two sides of the split."
        grounds = (
            f"{_kinds(copies)}; {counted(copies['images'], 'image')}, {percent(share)} of the set. Copies count as one "
            "patient, but there is less to learn from than the number of images says."
        )
        found.append(Verdict(tone="unsure" if share > MANY_COPIES else "good", text=text, grounds=grounds))
    if not copies["pairs"]:
        found.append(Verdict(tone="good", text="No image stands in the set twice.", grounds=_compared(one)))
    return found


def _kinds(pairs: dict[str, Any]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in pairs["kinds"].items())


def _compared(one: dict[str, Any]) -> str:
    if one["near_compared"]:
        return "Compared by pixels, and by the vessels that they show: saved again, resized or mirrored ones are found."
    return "Compared by pixels alone: the pictures are too small, or no photographs, to be compared by what they show."


def _groups(one: dict[str, Any]) -> list[Verdict]:
    both, found = one["groups_on_both_sides"], []
    if both["labelled"]:
        text = f"{counted(both['labelled'], 'group')} on more than one side of the split."
        found.append(Verdict(tone="bad", text=text, grounds="Results on their images would be too good."))
    if both["unlabelled_images"]:
        many = both["unlabelled_images"]
        text = f"{counted(many, 'unlabelled image')} {'is' if many == 1 else 'are'} of patients who are judged."
        grounds = "foveal pretrain leaves them out of the pool."
        found.append(Verdict(tone="unsure", text=text, grounds=grounds))
    if one["without_group"] and one["fundus"]:
        unknown = "all" if one["without_group"] == one["images"] else f"{one['without_group']:,} of"
        text = f"The patients are unknown for {unknown} {counted(one['images'], 'photograph')}."
        grounds = "Their split is by image. If two eyes of a patient stand on two sides, results are too good and "
        grounds += "intervals too narrow."
        found.append(Verdict(tone="unsure", text=text, grounds=grounds))
    total = sum(part["groups"] for part in one["parts"].values())
    if total and not both["labelled"]:
        text = "No group (patient) stands on more than one side of the split."
        found.append(Verdict(tone="good", text=text, grounds=f"Checked on {counted(total, 'group')}."))
    return found


def _flags(one: dict[str, Any]) -> list[Verdict]:
    """Which flags go with the label, and which are common."""
    found, totals = [], {name: total for name, total in class_totals(one).items() if total}
    uneven = [flag for flag in one["flags"] if flag["p"] is not None and flag["p"] < SURELY_UNEVEN]
    if uneven:
        named = listed([f"“{flag['flag']}”" for flag in uneven])
        text = f"Quality goes with the {_label(one)}: {named} {'is' if len(uneven) == 1 else 'are'} not spread evenly."
        grounds = "; ".join(f"{flag['flag']}: {_extremes(flag, totals)}" for flag in uneven)
        found.append(Verdict(tone="unsure", text=text, grounds=f"{grounds}."))
    many = [flag for flag in one["flags"] if flag["images"] > MANY_FLAGGED * one["images"]]
    if many:
        named = listed([f"“{flag['flag']}” ({percent(flag['images'] / one['images'])})" for flag in many])
        grounds = " ".join(flag["sentence"] for flag in many)
        found.append(Verdict(tone="unsure", text=f"Many images are flagged {named}.", grounds=grounds))
    return found


def _extremes(flag: dict[str, Any], totals: dict[str, int]) -> str:
    shares = {name: flag["per_class"].get(name, 0) / total for name, total in totals.items()}
    most, least = max(shares, key=lambda name: shares[name]), min(shares, key=lambda name: shares[name])
    return f"{percent(shares[most])} of “{most}”, {percent(shares[least])} of “{least}”"


def _label(one: dict[str, Any]) -> str:
    return "grade" if one["task"] == "grading" else "class"


def class_totals(one: dict[str, Any]) -> dict[str, int]:
    """Labelled images of each class over all parts."""
    return {name: sum(part["per_class"].get(name, 0) for part in one["parts"].values()) for name in one["classes"]}


def _small_classes(one: dict[str, Any]) -> list[Verdict]:
    few = [
        f"{counted(count, f'{word} image')} of “{name}”"
        for split, word in (("test", "test"), ("val", "validation"))
        for name, count in one["parts"].get(split, {}).get("per_class", {}).items()
        if count < SMALL_CLASS
    ]
    if not few:
        return []
    grounds = f"Figures from fewer than {SMALL_CLASS} images say little."
    return [Verdict(tone="unsure", text=f"The set has only {listed(few)}.", grounds=grounds)]


def _rejected(one: dict[str, Any]) -> list[Verdict]:
    count = sum(row["files"] for row in one["rejected"])
    if not count:
        return []
    text = f"{counted(count, 'picture')} of the source {'is' if count == 1 else 'are'} not in the set."
    first = one["rejected"][0]
    return [Verdict(tone="unsure", text=text, grounds=f"Most often ({first['files']:,}): {first['reason']}.")]


def _scales(sets: Sequence[dict[str, Any]]) -> list[Verdict]:
    found = []
    for first, second in combinations([one for one in sets if any_labels(one)], 2):
        if (first["scale"], first["classes"]) != (second["scale"], second["classes"]):
            text = f"The labels of {first['name']} and {second['name']} are on different scales and must not be mixed."
            grounds = " · ".join(f"{one['name']}: scale “{one['scale']}”, {listed(one['classes'])}"
                                 for one in (first, second))  # fmt: skip
            found.append(Verdict(tone="bad", text=text, grounds=grounds))
    return found


def across(pair: dict[str, Any]) -> Verdict:
    """What copies across two sets mean."""
    names, many = f"{pair['first']} and {pair['second']}", pair["pairs"]
    if not many:
        return Verdict(tone="good", text=f"No picture stands in both of {names}.", grounds=_compared(pair))
    kinds = f"{_kinds(pair)}; {pair['conflicts']:,} with different labels"
    if pair["leaks"]:
        text = (
            f"{counted(pair['leaks'], 'picture')} of {names} {'is' if pair['leaks'] == 1 else 'are'} in a training or "
            "unlabelled part of one and a validation or test part of the other."
        )
        grounds = f"Results of a network that has learned from both are too good. In all: {kinds}."
        return Verdict(tone="bad", text=text, grounds=grounds)
    text = f"{counted(many, 'picture')} stand{'s' if many == 1 else ''} in both of {names}."
    grounds = f"{kinds}; none is learned from in one and judged in the other."
    return Verdict(tone="unsure", text=text, grounds=grounds)


def same_patients(pair: dict[str, Any]) -> list[Verdict]:
    """What patients who stand in two sets mean; nothing where there are none."""
    names, shared = f"{pair['first']} and {pair['second']}", pair["patients"]
    if shared["leaks"]:
        images = counted(shared["leaks"], "image")
        text = f"{images} of patients who are learned from in one of {names} and judged in the other."
        return [Verdict(tone="bad", text=text, grounds=f"The first: {', '.join(shared['examples'])}.")]
    if shared["images"]:
        text = f"{counted(shared['images'], 'image')} of patients who stand in both of {names}."
        return [Verdict(tone="unsure", text=text, grounds="None is learned from in one and judged in the other.")]
    return []


def percent(share: float) -> str:
    """`4.5 %`, with a decimal where it is small."""
    return f"{100 * share:.{1 if 0 < share < 0.1 else 0}f}\N{NO-BREAK SPACE}%"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."
