"""Name and order the classes of a data set, and place them on a scale of grades."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from foveal.console import say, warn
from foveal.errors import FovealError
from foveal.page.words import counted
from foveal.sources.cards import CLASSES, ICDR
from foveal.sources.names import ETDRS, GRADE_OF, NEGATIVE, WORDS, flat, grade_of


def spellings(labels: Iterable[str]) -> dict[str, str]:
    """Each label -> the most frequent of those that differ from it only in case and spaces; prints what is merged."""
    spelled = dict[str, str]()
    found = {label: spelled.setdefault(" ".join(label.casefold().split()), label)
             for label, _ in Counter(labels).most_common()}  # fmt: skip
    if merged := [f"{label!r} as {usual!r}" for label, usual in found.items() if label != usual]:
        say(f"  labels that differ only in case or spaces are one class: {', '.join(merged[:10])}")
    return found


def name_classes(
    values: set[str], scale: str = "auto", places: Mapping[str, Sequence[str]] | None = None
) -> tuple[dict[str, int], tuple[str, ...], str, str]:
    """(label of each value, class names in label order, scale, note).

    "icdr" and "messidor" place every value on that scale, and keep classes without images; "auto" takes values for ICDR
    that are three of 0-4, with 4, or of R0-R4, with R4, or usual names of grades. Others keep their names, in order.
    FovealError for values that have no place, or are hardly but mistyped grades; places: where each value is.
    """
    numbers = all(value.isdecimal() for value in values)
    names, meant = CLASSES.get(scale, ICDR), "messidor" if scale == "messidor" else "icdr"
    scottish = {"R4"} <= values <= {"R0", "R1", "R2", "R3", "R4"}  # in England R3 is proliferative, and there is no R4
    placed = {value: grade_of(value[scottish:]) for value in values}
    _warn_of_numbers(placed)
    if meant == "messidor":
        placed = {value: int(value) if value in ("0", "1", "2", "3") else None for value in values}
    grades = {value: grade for value, grade in placed.items() if grade is not None}
    strange = sorted(values - set(grades))
    named = {grade for value, grade in grades.items() if not value.isdecimal()}
    known = {flat(name): name for name in (*WORDS["spellings"], *ICDR, *grades)}
    near = {value: _mistyped(flat(value), known) for value in strange}
    mistyped = bool(named) and all(near.values())
    if strange and (scale in CLASSES or (scale == "auto" and (mistyped or len(named) >= 3 >= len(strange) + 1))):
        rows = {value: (places or {}).get(value, ()) for value in strange[:10]}
        told = [f"{v!r}" + f" in {counted(len(at), 'row')} ({', '.join(at[:3])})" * bool(at) for v, at in rows.items()]
        meant = "".join(f"{value!r} may mean {known[found[0]]!r}; " for value, found in near.items() if found)
        what = f"{'the ICDR scale' if scale == 'auto' else f'--scale {scale}'} has no grade for {', '.join(told)}"
        fix = f"{meant}rename them, empty them, or give --scale none"
        raise FovealError("label.scale", what, expected=f"0-{len(names) - 1}, or {', '.join(names)}", fix=fix)
    if values and (scale in CLASSES or (scale == "auto" and not strange and _is_icdr(grades, numbers or scottish))):
        order = ", ".join(f"{value} = {grade}" for value, grade in sorted(grades.items(), key=lambda item: item[::-1]))
        note = f"the labels {', '.join(sorted(values))}" if numbers else order
        note += f" are on the {'ICDR' if meant == 'icdr' else scale} scale"
        absent = [name for grade, name in enumerate(names) if grade not in grades.values()]
        said = {word for value in values for word in re.findall(r"[^\W\d_]+", flat(value))}
        if 0 not in grades.values() and not said & GRADE_OF.keys():
            warn(f"no image has grade 0 ({names[0]}): if the labels are numbered from 1, subtract 1 from all of them")
        note += f"; no image of {', '.join(absent)}" if absent else ""
        return grades, names, meant, f"{note}; prepare --scale none if they mean something else"
    ordered = sorted(values, key=int) if numbers else sorted(values)
    by_severity = not strange and not numbers and len(set(grades.values())) == len(grades)
    without = [value for value in values if grades.get(value) == 0 or NEGATIVE.search(flat(value))]
    # Mild before severe, and of two classes, whatever the scale, no before yes.
    if (scale == "auto" and by_severity) or (len(values), len(without)) == (2, 1):
        ordered = sorted(values, key=lambda value: grades.get(value, 4 * (value not in without)))
    kind = ""
    if numbers and not values <= {"0", "1"} and values <= set("01234"):
        kind = "grades" if "4" in values else "few_grades"
    elif numbers and len(values) > 2 and not values <= ETDRS:
        kind = "numbers"
    elif values <= ETDRS and not values <= {"10", "12", "20", "60", "90"}:
        kind = "etdrs"
    elif len(values) > 2 and (by_severity or not numbers):
        kind = "by_severity" if by_severity else "alphabetical"
    note = WORDS["notes"][kind].format(", ".join(ordered)) if kind and scale == "auto" else ""
    return {value: number for number, value in enumerate(ordered)}, tuple(ordered), "none", note


def _warn_of_numbers(placed: Mapping[str, int | None]) -> None:
    """Warn if classes such as "2 severe" have a word for one grade and the number of another."""
    apart = {}
    for value, grade in placed.items():
        numbers = re.findall(r"\d+", value)
        if grade is not None and len(numbers) == 1 and value not in numbers:
            apart[value] = int(numbers[0]) - grade
    if len(set(apart.values())) > 1:  # if all are one apart, the numbers count from 1
        told = ", ".join(f"{value!r} is grade {placed[value]}" for value in sorted(apart) if apart[value])
        warn(f"numbers and words of classes disagree, and the words count: {told}")


def _mistyped(word: str, known: Iterable[str]) -> list[str]:
    """The known word that this one is probably a typo of, in a list; first letter, digits and rough length agree."""
    near = difflib.get_close_matches(word, known, 1, 0.8)
    alike = [one for one in near if one[0] == word[0] and abs(len(one) - len(word)) <= 2]
    return [one for one in alike if re.findall(r"\d", one) == re.findall(r"\d", word)]


def _is_icdr(grades: dict[str, int], numbers: bool) -> bool:
    """Whether values that can all be placed are meant as ICDR grades, and not as those of another disease."""
    found = set(grades.values())
    if numbers:
        return 4 in found and len(found) >= 3
    said = any(re.search(r"dr\b|retinopat|rd\b|prolif", value.lower().replace("_", " ")) for value in grades)
    return len(found) >= 4 or (said and len(found) >= 2)
