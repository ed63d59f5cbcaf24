"""The one error of Foveal: a code for programs, and what happened, what was expected and how to fix it for people.

    raise FovealError("run.not_a_run", f"{path} is not a run folder", fix="give the --out of pretrain or train")

A code is `subject.problem`, in lower case; it stays the same when a sentence is improved. The command line prints it,
the web service answers with it, and tests check it. `FovealError` is a ValueError, so that a caller who knows nothing
of Foveal can still catch it.
"""

from __future__ import annotations


class FovealError(ValueError):
    """Something that the user can put right.

    code: `subject.problem`, such as `weights.mismatch`. what: what happened, with the file, option or value it is
    about. expected: what would have been right. fix: what to do, beginning with a verb. Texts have no full stop at
    their end.
    """

    def __init__(self, code: str, what: str, *, expected: str = "", fix: str = "") -> None:
        super().__init__(code, what, expected, fix)  # all of them: an error must survive pickling between processes
        self.code, self.what, self.expected, self.fix = code, what, expected, fix
        self.retry_after: int | None = None  # seconds after which the same request may succeed

    def __reduce__(self) -> tuple[object, tuple[str, str, str, str]]:
        return _again, (self.code, self.what, self.expected, self.fix)

    def __str__(self) -> str:
        """`What happened. Expected: this. To fix it: that.` in one line; only the first part where there is no more."""
        parts = [self.what]
        if self.expected:
            parts.append(f"Expected: {self.expected}")
        if self.fix:
            parts.append(f"To fix it: {self.fix}")
        return parts[0] if len(parts) == 1 else ". ".join(part.rstrip(".") for part in parts)

    @property
    def subject(self) -> str:
        """What the error is about: `image` of `image.damaged`."""
        return self.code.partition(".")[0]


def _again(code: str, what: str, expected: str, fix: str) -> FovealError:
    return FovealError(code, what, expected=expected, fix=fix)
