"""The command line: a literal table of verbs; parse, call, print.

    foveal VERB … [--config FILE.toml] [--quiet] [--debug]

A verb's options are the fields of the dataclass that its function takes. Exit codes: 0 done, 1 the work failed,
2 wrong use.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import foveal

# verb -> (module of foveal with the function of that name, module with its options VerbConfig, what it does)
VERBS = {
    "demo": ("demo", "demo", "the whole way on drawn photographs, in a few minutes"),
    "prepare": ("sets.prepare", "sets.prepare", "decode, crop and split a source once, into a prepared set"),
    "inspect": ("inspect.inspect", "inspect.inspect", "what is in prepared sets, and what could mislead"),
    "cluster": ("cluster.cluster", "cluster.cluster", "which images look alike, and whether their labels agree"),
    "correct": ("sets.correct", "sets.correct", "a second opinion on a grade, kept beside the set"),
    "pretrain": ("pretrain.loop", "pretrain.options", "learn an encoder from images without labels"),
    "probe": ("compare.probe", "compare.probe", "what frozen features know of the labels, in minutes"),
    "train": ("train.train", "train.options", "learn grades: fine-tune, or a linear probe with --freeze"),
    "pseudolabel": (
        "compare.pseudolabel", "compare.pseudolabel", "grade the ungraded, and train again with what is sure"
    ),
    "compare": ("compare.compare", "compare.options", "did the pre-training help? in one table"),
    "predict": ("predict.predict", "predict.predict", "grade pictures with a trained run"),
    "evaluate": ("evaluate.evaluate", "evaluate.evaluate", "measure predictions, every figure with an interval"),
    "explain": ("explain.explain", "explain.explain", "show where a grader looks, and how far to believe it"),
    "export": ("export.export", "export.options", "files for other programs, checked against the run"),
    "report": ("report.build", "report.build", "one page of evidence from one or more runs"),
    "serve": ("serve.serve", "serve.options", "a grader behind a page and an API"),
}  # fmt: skip

COMMON_OPTIONS = (
    "--config FILE.toml reads options from a file, --quiet prints errors only, --debug shows where one arose."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug, quiet = "--debug" in given, "--quiet" in given
    arguments = [argument for argument in given if argument not in ("--debug", "--quiet")]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())  # noqa: T201
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"foveal {foveal.__version__}")  # noqa: T201
        return 0
    verb = arguments[0]
    if verb not in VERBS:
        return _fail(_unknown_verb(verb), 2)
    try:
        return run_verb(verb, arguments[1:], quiet)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on from what is finished, where the verb keeps it", 130)
    except Exception as error:
        if debug:
            raise
        return _fail(_in_words(error), 1)


def run_verb(verb: str, arguments: Sequence[str], quiet: bool) -> int:
    """Parse the options of a verb and call its function."""
    from foveal.config import parse
    from foveal.console import set_quiet

    module, _, line = VERBS[verb]
    try:
        config: Any = parse(options_of(verb), verb, arguments, f"{line[0].upper()}{line[1:]}. {COMMON_OPTIONS}")
    except SystemExit as stop:  # --help, or an option that does not exist: the parser has said so
        return stop.code if isinstance(stop.code, int) else 2
    except ValueError as error:
        return _fail(str(error), 2)
    set_quiet(quiet)
    # Only now what takes seconds to import: a typo is told at once.
    getattr(importlib.import_module(f"foveal.{module}"), verb)(config)
    return 0


def options_of(verb: str) -> type:
    """The dataclass of a verb's options."""
    options: type = getattr(importlib.import_module(f"foveal.{VERBS[verb][1]}"), f"{verb.capitalize()}Config")
    return options


def overview() -> str:
    """What `foveal --help` prints."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {line}" for verb, (_, _, line) in VERBS.items()]
    return "\n".join([
        "foveal: from a folder of fundus photographs to a grader whose quality is shown, not claimed.", "",
        "usage: foveal VERB … [--config FILE.toml] [--quiet] [--debug]", "", *lines, "",
        "foveal VERB --help explains the options of a verb. Research use; not a medical device.",
    ])  # fmt: skip


def _in_words(error: Exception) -> str:
    words = str(error) or type(error).__name__
    if isinstance(error, ValueError):
        return words
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "DefaultCPUAllocator" in words:
        words = (
            f"there is not enough memory: choose a smaller size of image, network or batch ({words.splitlines()[0]})"
        )
    return f"{words}\n(--debug shows where)"


def _unknown_verb(verb: str) -> str:
    import difflib

    near = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0.5)
    return f"there is no verb '{verb}'; " + (f"did you mean '{near[0]}'?" if near else f"verbs: {', '.join(VERBS)}")


def _fail(message: str, code: int) -> int:
    print(f"foveal: {message}", file=sys.stderr)  # noqa: T201
    return code
