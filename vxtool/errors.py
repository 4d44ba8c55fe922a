"""Everything that vxtool refuses, as one tree of exceptions.

Knows no protocol and no file format. An error here is the caller's mistake or a world that will not cooperate; what is odd *inside* a capture is
never an exception but a row's `stop` (vxtool.decode) or a `Damage` (vxtool.capture).

    VxtoolError                 the command line prints its text as one sentence and exits with 2
    ├── UsageError              an option, argument or value that makes no sense
    │   └── FilterError         an expression given to --where that cannot be understood
    ├── CaptureError            a capture that cannot be opened or written at all
    ├── LabError                a lab that cannot be built, reached or changed: the step that failed, and why
    ├── ExpectationError        an expectation (inspect JSON, YAML, kubectl JSON) of the wrong shape
    └── MissingFeature          a library, a kernel feature or a permission that this machine lacks
"""

from __future__ import annotations

__all__ = ["CaptureError", "ExpectationError", "FilterError", "LabError", "MissingFeature", "UsageError", "VxtoolError"]


class VxtoolError(Exception):
    """One clear sentence: what, where, and what to do about it."""


class UsageError(VxtoolError):
    """An option, argument or value that makes no sense."""


class FilterError(UsageError):
    """An expression that cannot be understood; the text says at which column."""


class CaptureError(VxtoolError):
    """A capture that cannot be opened or written at all."""


class ExpectationError(VxtoolError):
    """A statement of what a cluster should be that has the wrong shape."""


class LabError(VxtoolError):
    """A lab that cannot be built, reached or changed."""


class MissingFeature(VxtoolError):
    """Something this machine lacks; the text says how to get it."""
