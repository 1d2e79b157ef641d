"""All errors that a user of squeezenet can meet: one base class, one subclass per cause.

A message is one line: what, where, found, expected, what to do next. ``exit_code`` is the exit
code of the command line. Programming errors of our own are ``assert``s, never one of these.
"""


def one_line(text: str, limit: int = 1000) -> str:
    """Make text from anywhere fit for a terminal: one line, no control characters, not endless."""
    clean = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return clean if len(clean) <= limit else clean[:limit] + "..."


class SqueezeNetError(Exception):
    """Base class of all errors that this package raises on purpose.

    What a message quotes from a file becomes ``one_line``. ``is_shared``: every process of a job
    ends with this error, so one per machine shows it.
    """

    exit_code = 1
    is_shared = False

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class UsageError(SqueezeNetError):
    """The command or call has wrong arguments."""

    exit_code = 2


class SpecError(SqueezeNetError):
    """The description of a network, preprocessing, record or recipe is invalid."""


class TooLargeError(SpecError):
    """A network exceeds the limits of the file format: weights, elements or operations."""


class UnknownNameError(UsageError):
    """There is no preset, recipe, class or published file of that name."""


class DataError(SqueezeNetError):
    """A folder of images cannot be used: it is empty, has one class, or classes do not match."""


class ImageError(SqueezeNetError):
    """An image cannot be read; by default it is reported and skipped."""


class WeightsError(SqueezeNetError):
    """Weights do not match their network."""


class ClassCountError(WeightsError):
    """Weights or data have other classes than the network."""


class LossyConversionError(SqueezeNetError):
    """A conversion would change weights; conversions must be lossless."""


class CheckpointError(SqueezeNetError):
    """A run folder cannot be written, or not resumed with these settings."""


class FolderInUseError(CheckpointError):
    """Another process works in the folder."""


class StudyError(SqueezeNetError):
    """A study's folder or database cannot be used, or holds a study with other settings."""


class DistributedError(SqueezeNetError):
    """Processes that train together lost each other, or one of them met an error.

    ``exit_code`` is that of the error.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class DivergenceError(SqueezeNetError):
    """Training has diverged: the loss or a weight is infinite or NaN."""


class FetchError(SqueezeNetError):
    """A file could not be downloaded, or its content is not the published one.

    ``status`` is what the server answered; None if it did not, or broke off.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class MissingExtraError(SqueezeNetError):
    """An optional dependency is not installed."""


class QualityError(SqueezeNetError):
    """The work is done, but the result misses the requested quality."""

    exit_code = 3
    is_shared = True


class InterruptedRunError(SqueezeNetError):
    """A long job received a signal to stop, and has saved its state.

    ``signal_number`` is SIGINT or SIGTERM; the exit code is 128 + ``signal_number``.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class FormatError(SqueezeNetError):
    """A model file is invalid; see the subclasses, and spec/FORMAT.md, "Errors"."""


class UnknownFormatError(FormatError):
    """The content is not that of a known kind of model file."""


class TruncatedError(FormatError):
    """The file is shorter than its header says."""


class ChecksumError(FormatError):
    """A checksum is wrong: the file has been damaged."""


class UnsupportedVersionError(FormatError):
    """The file has a version or a feature that this release does not read."""


class MalformedError(FormatError):
    """The checksums are correct, but the content violates the specification."""


class LimitError(FormatError):
    """The file exceeds the limits of the format, for instance in memory."""


class FloatOnlyError(FormatError):
    """A valid file that integer clients cannot run: for float32 alone, or with Huffman codes."""
