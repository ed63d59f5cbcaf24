"""The command line: a literal table of verbs; parse, call, print.

    foveal VERB … [--config FILE.toml] [--quiet] [--debug]

A verb's options are the fields of the dataclass that its function takes. Exit codes: 0 success, 1 failure, 2 wrong
use, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import foveal
from foveal.errors import FovealError

# verb -> (module of foveal with the function of that name, module with its options VerbConfig, what it does)
VERBS = {
    "demo": ("demo", "demo", "run every step on drawn photographs, in a few minutes"),
    "prepare": ("sets.prepare", "sets.options", "decode, crop and split a source once, into a prepared set"),
    "inspect": ("inspect.inspect", "inspect.inspect", "show what prepared sets contain, and what could mislead"),
    "cluster": ("cluster.cluster", "cluster.cluster", "find images that look alike, and see whether labels agree"),
    "correct": ("sets.correct", "sets.correct", "record a second opinion on a grade, stored beside the set"),
    "pretrain": ("pretrain.loop", "pretrain.options", "learn an encoder from images without labels"),
    "probe": ("compare.probe", "compare.probe", "measure how well frozen features predict the labels, in minutes"),
    "train": ("train.train", "train.options", "train a grader: fine-tune, or a linear probe with --freeze"),
    "pseudolabel": (
        "compare.pseudolabel", "compare.pseudolabel", "grade ungraded images, and train again with the confident ones"
    ),
    "compare": ("compare.compare", "compare.options", "compare starting weights, to see whether pre-training helped"),
    "predict": ("predict.predict", "predict.predict", "grade photographs with a trained run"),
    "evaluate": ("evaluate.evaluate", "evaluate.evaluate", "measure predictions, every metric with an interval"),
    "explain": ("explain.explain", "explain.explain", "show where a grader looks, and how far to trust the maps"),
    "export": ("export.export", "export.options", "write files for other programs, checked against the run"),
    "report": ("report.build", "report.build", "write one page of evidence from one or more runs"),
    "serve": ("serve.serve", "serve.options", "serve a grader as a web page and an API"),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    try:
        code = run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as with `foveal train --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def run(given: list[str]) -> int:
    """What `main` does, given the arguments."""
    debug, quiet = "--debug" in given, "--quiet" in given
    arguments = [argument for argument in given if argument not in ("--debug", "--quiet")]
    if not arguments or arguments[0] in ("-h", "--help", "help", "--version"):
        print(f"foveal {foveal.__version__}" if arguments == ["--version"] else overview())  # noqa: T201
        return 0 if arguments else 2
    verb = arguments[0]
    try:
        config = options_in(verb, arguments[1:])
    except FovealError as error:
        return _fail(error, 2)
    except SystemExit as stop:  # an option that does not exist: the parser has printed why
        return stop.code if isinstance(stop.code, int) else 2
    return 0 if config is None else run_verb(verb, config, quiet, debug)


def options_in(verb: str, arguments: Sequence[str]) -> Any:
    """The options of a verb from its arguments; if they ask for help, print it and return None."""
    if verb not in VERBS:
        raise _unknown_verb(verb)
    from foveal.config import parse
    from foveal.help import help_of

    if {"-h", "--help"} & set(arguments):
        print(help_of(verb, VERBS[verb][2], options_of(verb)))  # noqa: T201
        return None
    return parse(options_of(verb), verb, arguments)


def run_verb(verb: str, config: Any, quiet: bool, debug: bool) -> int:
    """Call the function of a verb; returns the exit code.

    Slow imports happen only here, so that a mistyped option is reported at once.
    """
    from foveal.console import set_quiet

    set_quiet(quiet)
    try:
        getattr(importlib.import_module(f"foveal.{VERBS[verb][0]}"), verb)(config)
    except KeyboardInterrupt:
        print("foveal: interrupted; the same command resumes where possible", file=sys.stderr)  # noqa: T201
        return 130
    except Exception as error:
        if debug:
            raise
        return _fail(error, 1)
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
        "foveal: turn a folder of fundus photographs into a grader, and measure how good it is.", "",
        "usage: foveal VERB … [--config FILE.toml] [--quiet] [--debug]", "", *lines, "",
        "foveal VERB --help explains the options of a verb. Research use; not a medical device.",
    ])  # fmt: skip


def _unknown_verb(verb: str) -> FovealError:
    import difflib

    near = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0.5)
    what = f"there is no verb {verb}"
    if near:
        return FovealError("option.unknown", what, fix=f"use {near[0]}")
    return FovealError("option.unknown", what, expected=f"one of {', '.join(VERBS)}")


def _fail(error: Exception, code: int) -> int:
    """Print an error on stderr, with separate lines for what was expected and how to fix it."""
    if not isinstance(error, FovealError):
        error = _in_our_words(error)
    lines = [f"foveal: error [{error.code}] {error.what}"]
    lines += [f"  expected: {error.expected}"] if error.expected else []
    lines += [f"  to fix it: {error.fix}"] if error.fix else []
    print("\n".join(lines), file=sys.stderr)  # noqa: T201
    return code


def _in_our_words(error: Exception) -> FovealError:
    words = str(error) or type(error).__name__
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "DefaultCPUAllocator" in words:
        fix = "choose a smaller image size, network or batch; --debug shows where it happened"
        return FovealError("memory.exhausted", f"there is not enough memory ({words.splitlines()[0]})", fix=fix)
    return FovealError("internal.error", words, fix="run it again with --debug to see where it happened")
