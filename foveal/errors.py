"""The one error class: a code for programs; for people, what happened, what was expected and how to fix it.

    raise FovealError("run.not_a_run", f"{path} is not a run folder", fix="give the --out of pretrain or train")

A code is `subject.problem`, in lower case; it stays the same when the wording changes. The command line prints it, the
web service answers with it, and tests check it. The error is a ValueError, so callers need not know its class.
"""

import importlib.util
from functools import partial


class FovealError(ValueError):
    """An error that the user can fix.

    code: `subject.problem`, such as `weights.mismatch`. what: what happened, with the file, option or value it is
    about. expected: what would have been valid. fix: what to do, beginning with a verb. No full stop at the end.
    """

    def __init__(self, code: str, what: str, *, expected: str = "", fix: str = "") -> None:
        super().__init__(code, what, expected, fix)
        self.code, self.what, self.expected, self.fix = code, what, expected, fix
        self.retry_after: int | None = None  # seconds after which the same request may succeed

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return partial(FovealError, expected=self.expected, fix=self.fix), (self.code, self.what)

    def __str__(self) -> str:
        """`What happened. Expected: this. To fix it: that.` in one line, without the parts that are empty."""
        said = {"Expected: ": self.expected, "To fix it: ": self.fix}
        parts = [self.what, *(start + words for start, words in said.items() if words)]
        return parts[0] if len(parts) == 1 else ". ".join(part.rstrip(".") for part in parts)

    @property
    def subject(self) -> str:
        """What the error is about: `image` of `image.damaged`."""
        return self.code.partition(".")[0]


def check_packages(what: str, extra: str, *modules: str) -> None:
    """FovealError unless these modules, which an extra of Foveal installs, are there. what: what needs them."""
    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        fix = f"pip install 'foveal[{extra}]'"
        raise FovealError("package.missing", f"{what} needs {', '.join(missing)}, which is not installed", fix=fix)
