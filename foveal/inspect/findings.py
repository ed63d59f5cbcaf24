"""What could mislead, in plain words, worst first; made from the numbers of a summary alone."""

from collections.abc import Iterator, Sequence
from itertools import chain, combinations
from typing import Any

from foveal.evaluate.show import SMALL_CLASS
from foveal.page.parts import Verdict
from foveal.page.words import capital, counted, listed, number, percent, value_with_interval

STRONG = 0.2  # strength of a shortcut (0 chance, 1 perfect): what many first graders reach
ALMOST = 0.8  # cues with this share of the strength of the strongest are named with it
SURELY_UNEVEN = 0.001  # p-value of a flag by class; low, because two eyes of a patient share flag and grade
MANY_FLAGGED = 0.05  # share of the images, also below
MANY_COPIES = 0.1
TONES = ("bad", "unsure", "good")

Findings = Iterator[tuple[str, str, str]]  # tone, text and grounds of each verdict


def find(sets: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]]) -> list[Verdict]:
    """All findings, of every set and across sets, worst first."""
    found = [*_scales(sets), *chain.from_iterable(map(_across, pairs))]
    for one in sets:
        name = f"{one['name']}: " if len(sets) > 1 else ""
        for look in (_shortcut, _copies, _groups, _flags, _small_classes, _rejected):
            found += [(tone, f"{name}{text}", grounds) for tone, text, grounds in look(one)]
    found.sort(key=lambda finding: TONES.index(finding[0]))
    return [Verdict(tone=tone, text=text, grounds=grounds) for tone, text, grounds in found]


def any_labels(one: dict[str, Any]) -> bool:
    """Whether any image of the set has a label."""
    return any(class_totals(one).values())


def class_totals(one: dict[str, Any]) -> dict[str, int]:
    """Labelled images of each class over all parts."""
    return {name: sum(part["per_class"].get(name, 0) for part in one["parts"].values()) for name in one["classes"]}


def unknown_patients(one: dict[str, Any]) -> int:
    """The number of photographs without a patient; 0 for other pictures, which have none."""
    return one["without_group"] if one["fundus"] else 0


def _shortcut(one: dict[str, Any]) -> Findings:
    """Whether the label can be guessed from image properties without looking at the retina."""
    found, label = one["shortcut"], "grade" if one["task"] == "grading" else "class"
    if found["why_not"]:
        text = f"Not measured: whether the {label} can be guessed from size, border and colour alone."
        yield "unsure" if any_labels(one) else "good", text, f"{capital(found['why_not'])}."
        return
    figures = f"{found['metric']} {value_with_interval(found)}; chance is {number(found['chance'])}"
    cues = listed([cue["name"] for cue in found["cues"]])
    drawn = f" drawn from {found['of']:,}" if found["of"] > found["n"] else ""
    judged = f"judged on {counted(found['n'], 'labelled image')}{drawn} in {counted(found['groups'], 'group')}, by "
    judged += "cross-validation over groups"
    if unknown_patients(one):
        judged += " (images without a group count as separate patients, which can make the figure too high)"
    if not found["found"]:
        luck = "" if found["luck"] is None else f" With shuffled labels, up to {number(found['luck'])}."
        text = f"Size, border and colour alone do not predict the {label} better than chance."
        yield "good", text, f"From {cues}: {figures}; {judged}.{luck}"
        return
    text = f"The {label} can be guessed from {strongest(found)} ({figures}): a grader can do this well without looking "
    text += f"at {'any lesion' if one['fundus'] else 'any shape'}."
    alone = "; ".join(f"{cue['name']} {number(cue['value'])}" for cue in found["cues"][:4])
    together = f"{capital(cues)} together, {judged}" if len(found["cues"]) > 1 else capital(judged)
    yield "bad" if found["strength"] >= STRONG else "unsure", text, f"{together}. Alone: {alone}."


def strongest(probe: dict[str, Any]) -> str:
    """The strongest cue, and others that are almost as strong: `the width`, `the width and height`."""
    best = probe["cues"][0]["value"] - probe["chance"]
    near = [cue["name"] for cue in probe["cues"] if cue["value"] - probe["chance"] >= ALMOST * best][:3]
    words = {"border": "share of black border"} | {name: f"mean {name}" for name in ("red", "green", "blue", "grey")}
    return f"the {listed([words.get(name, name) for name in near])} of the picture"


def _copies(one: dict[str, Any]) -> Findings:
    copies = one["copies"]
    if copies["torn"]:
        text = f"{counted(copies['torn'], 'pair')} of copies on different sides of the split."
        yield "bad", text, "Results on them would be too optimistic. Prepare the set again."
    if many := copies["conflicts"]:
        first = copies["listed"][0]
        text = f"{counted(many, 'pair')} of copies {'has' if many == 1 else 'have'} different labels."
        example = f"{first['id']} is “{first['grade']}”, {first['other']} is “{first['other_grade']}”"
        yield "bad", text, f"One label of each pair is wrong, or the eye changed between two photographs: {example}."
    if copies["pairs"] and not copies["torn"]:
        share = copies["images"] / one["images"]
        text = f"{counted(copies['pairs'], 'pair')} of copies, all on the same side of the split."
        grounds = f"{_kinds(copies)}; {counted(copies['images'], 'image')}, {percent(share, 1)} of the set. Copies "
        grounds += "count as one patient, so the set is effectively smaller than its number of images."
        yield "unsure" if share > MANY_COPIES else "good", text, grounds
    if not copies["pairs"]:
        yield "good", "The set contains no copies.", _compared(one)


def _kinds(pairs: dict[str, Any]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in pairs["kinds"].items())


def _compared(one: dict[str, Any]) -> str:
    if one["near_compared"]:
        how = "re-saved, resized, mirrored, turned and cropped"
        return f"Compared by pixels and vessels, which also finds {how} copies."
    return "Compared by pixels only: the pictures are too small, or not photographs, to compare their content."


def _groups(one: dict[str, Any]) -> Findings:
    both, unlabelled = (one["groups_on_both_sides"][name] for name in ("labelled", "unlabelled_images"))
    if both:
        text = f"{counted(both, 'group')} on more than one side of the split."
        yield "bad", text, "Results on their images would be too optimistic."
    if unlabelled:
        text = f"{counted(unlabelled, 'unlabelled image')} {_are(unlabelled)} of patients in the validation or test"
        yield "unsure", f"{text} part.", "foveal pretrain leaves them out."
    if unknown := unknown_patients(one):
        share = "all" if unknown == one["images"] else f"{unknown:,} of"
        text = f"The patients are unknown for {share} {counted(one['images'], 'photograph')}."
        grounds = "If a patient has images on both sides, results are too optimistic and intervals too narrow."
        yield "unsure", text, f"They are split by image. {grounds}"
    total = sum(part["groups"] for part in one["parts"].values())
    if total and not both:
        text = "No group (patient) is on more than one side of the split."
        yield "good", text, f"Checked on {counted(total, 'group')}."


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _flags(one: dict[str, Any]) -> Findings:
    """Flags that depend on the label, and common flags."""
    if uneven := [flag for flag in one["flags"] if flag["p"] is not None and flag["p"] < SURELY_UNEVEN]:
        names, shares = listed([f"“{flag['flag']}”" for flag in uneven]), []
        for flag in uneven:
            by_class = {name: flag["per_class"].get(name, 0) / n for name, n in class_totals(one).items() if n}
            most, least = max(by_class, key=by_class.__getitem__), min(by_class, key=by_class.__getitem__)
            ends = f"{percent(by_class[most], 1)} of “{most}”, {percent(by_class[least], 1)} of “{least}”"
            shares.append(f"{flag['flag']}: {ends}")
        text = f"Image quality depends on the label: {names} {_are(len(uneven))} more common in some classes."
        yield "unsure", text, f"{'; '.join(shares)}."
    if many := [flag for flag in one["flags"] if flag["images"] > MANY_FLAGGED * one["images"]]:
        names = listed([f"“{flag['flag']}” ({percent(flag['images'] / one['images'])})" for flag in many])
        yield "unsure", f"Many images are flagged {names}.", " ".join(flag["sentence"] for flag in many)


def _small_classes(one: dict[str, Any]) -> Findings:
    few = [
        f"{counted(count, f'{word} image')} of “{name}”"
        for split, word in (("test", "test"), ("val", "validation"))
        for name, count in one["parts"].get(split, {}).get("per_class", {}).items()
        if count < SMALL_CLASS
    ]
    if few:
        grounds = f"Figures from fewer than {SMALL_CLASS} images are unreliable."
        yield "unsure", f"The set has only {listed(few)}.", grounds


def _rejected(one: dict[str, Any]) -> Findings:
    if count := sum(row["files"] for row in one["rejected"]):
        first = one["rejected"][0]
        text = f"{counted(count, 'picture')} of the source {_are(count)} not in the set."
        yield "unsure", text, f"Most common reason ({first['files']:,}): {first['reason']}."


def _scales(sets: Sequence[dict[str, Any]]) -> Findings:
    for first, second in combinations(filter(any_labels, sets), 2):
        if (first["scale"], first["classes"]) != (second["scale"], second["classes"]):
            text = f"The labels of {first['name']} and {second['name']} are on different scales. Do not mix them."
            scales = [f"{one['name']}: scale “{one['scale']}”, {listed(one['classes'])}" for one in (first, second)]
            yield "bad", text, " · ".join(scales)


def _across(pair: dict[str, Any]) -> Findings:
    """Copies across two sets, and patients in both."""
    names, copies, leaks = f"{pair['first']} and {pair['second']}", pair["pairs"], pair["leaks"]
    shared = pair["patients"]
    kinds = f"{_kinds(pair)}; {pair['conflicts']:,} with different labels"
    apart = "in training data of one set and in test data of the other."
    if not copies:
        yield "good", f"{names} have no pictures in common.", _compared(pair)
    elif leaks:
        text = f"{counted(leaks, 'picture')} of {names} {_are(leaks)} in the training or unlabelled part of one set "
        text += "and in the validation or test part of the other."
        yield "bad", text, f"Results of a network trained on both are too optimistic. In total: {kinds}."
    else:
        text = f"{counted(copies, 'picture')} {_are(copies)} in both {names}."
        yield "unsure", text, f"{kinds}; none is {apart}"
    if shared["leaks"]:
        text = f"{counted(shared['leaks'], 'image')} of patients in training data of one set and test data of the other"
        yield "bad", f"{text} ({names}).", f"The first: {', '.join(shared['examples'])}."
    elif shared["images"]:
        text = f"{counted(shared['images'], 'image')} of patients who are in both {names}."
        yield "unsure", text, f"None is {apart}"
