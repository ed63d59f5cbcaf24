"""The command line: parse the options of a verb, call its function, print errors.

    foveal VERB … [--config FILE.toml] [--quiet] [--debug]

A verb's options are the fields of a dataclass. Exit codes: 0 success, 1 failure, 2 wrong use, 130 interrupted.
"""

import difflib
import os
import sys
from collections.abc import Sequence
from typing import Any

from foveal.errors import FovealError
from foveal.verbs import VERBS, function_of, has_option, options_of
from foveal.version import VERSION


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
    """Run one verb with these arguments; returns the exit code."""
    debug, quiet = "--debug" in given, "--quiet" in given
    arguments = [argument for argument in given if argument not in ("--debug", "--quiet")]
    if not arguments or arguments[0] in ("-h", "--help", "help", "--version"):
        print(f"foveal {VERSION}" if arguments == ["--version"] else overview())  # noqa: T201
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
        near = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0.5)
        fix, expected = (f"use {near[0]}", "") if near else ("", f"one of {', '.join(VERBS)}")
        raise FovealError("option.unknown", f"there is no verb {verb}", fix=fix, expected=expected)
    from foveal.config import parse
    from foveal.help import help_of

    if {"-h", "--help"} & set(arguments):
        print(help_of(verb, VERBS[verb][2], options_of(verb)))  # noqa: T201
        return None
    try:
        return parse(options_of(verb), verb, arguments)
    except FovealError as error:
        if error.code == "option.unknown" and not error.fix:
            option = error.what.rpartition(" ")[2]
            others = ", ".join(f"foveal {other}" for other in VERBS if has_option(other, option))
            error.fix = f"leave it out: it is an option of {others}" if others else f"see foveal {verb} --help"
        raise


def run_verb(verb: str, config: Any, quiet: bool, debug: bool) -> int:
    """Call the function of a verb; returns the exit code.

    Slow imports happen only here, so that a mistyped option is reported at once.
    """
    from foveal.console import set_quiet

    set_quiet(quiet)
    try:
        function_of(verb)(config)
    except KeyboardInterrupt:
        print("foveal: interrupted; the same command resumes where possible", file=sys.stderr)  # noqa: T201
        return 130
    except Exception as error:
        if debug:
            raise
        return _fail(error, 1)
    return 0


def overview() -> str:
    """What `foveal --help` prints."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {line}" for verb, (_, _, line) in VERBS.items()]
    return "\n".join([
        "foveal: turn a folder of fundus photographs into a grader, and measure how good it is.", "",
        "usage: foveal VERB … [--config FILE.toml] [--quiet] [--debug]", "", *lines, "",
        "foveal VERB --help explains the options of a verb. Research use; not a medical device.",
    ])  # fmt: skip


def _fail(error: Exception, code: int) -> int:
    if not isinstance(error, FovealError):
        words = str(error) or type(error).__name__
        kind, what, fix = "internal.error", words, "run it again with --debug to see where it happened"
        if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "DefaultCPUAllocator" in words:
            kind, what = "memory.exhausted", f"there is not enough memory ({words.splitlines()[0]})"
            fix = "choose a smaller image size, network or batch; --debug shows where it happened"
        error = FovealError(kind, what, fix=fix)
    lines = [f"foveal: error [{error.code}] {error.what}"]
    lines += [f"  expected: {error.expected}"] if error.expected else []
    lines += [f"  to fix it: {error.fix}"] if error.fix else []
    print("\n".join(lines), file=sys.stderr)  # noqa: T201
    return code
