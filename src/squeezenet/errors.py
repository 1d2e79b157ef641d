"""Every error that a user of squeezenet can meet: one root, a subclass a cause.

A message is one line and says what, where, found, expected, and what to do next.
``exit_code`` is what the command line leaves with. Our own mistakes are plain
``assert``s, never one of these.
"""


class SqueezeNetError(Exception):
    """Root of all errors raised on purpose by this package."""

    exit_code = 1


class UsageError(SqueezeNetError):
    """The command or the call was put together wrongly."""

    exit_code = 2


class SpecError(SqueezeNetError):
    """A network, preprocessing record or recipe that cannot exist."""


class TooLargeError(SpecError):
    """A network beyond the limits of the file format: too many weights, elements or operations."""


class UnknownNameError(UsageError):
    """A preset, recipe, class or published file of that name does not exist."""


class DataError(SqueezeNetError):
    """A folder of images cannot be used: empty, one class, classes that do not match."""


class ImageError(SqueezeNetError):
    """One image cannot be read; normally reported and skipped."""


class WeightsError(SqueezeNetError):
    """Weights do not fit the network that they were meant for."""


class ClassCountError(WeightsError):
    """Weights or data have another number of classes than the network."""


class LossyConversionError(SqueezeNetError):
    """A conversion would change weights, and conversions lose nothing."""


class CheckpointError(SqueezeNetError):
    """A run folder cannot be written, or cannot be resumed with these settings."""


class DivergenceError(SqueezeNetError):
    """Training has left the numbers that floating point can hold."""


class FetchError(SqueezeNetError):
    """A published file could not be downloaded or is not the published one."""


class MissingExtraError(SqueezeNetError):
    """An optional dependency is not installed."""


class QualityError(SqueezeNetError):
    """All was done, and the result misses the quality that was asked for."""

    exit_code = 3


class InterruptedRunError(SqueezeNetError):
    """A long job was told to stop and has saved its state.

    ``signal_number`` is SIGINT or SIGTERM; the exit code is 128 + that number.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class FormatError(SqueezeNetError):
    """A model file is not what it should be; the subclasses say how."""


class UnknownFormatError(FormatError):
    """The content is no model file that we know."""


class TruncatedError(FormatError):
    """The file is shorter than it says it is."""


class ChecksumError(FormatError):
    """The file's bytes are not the ones that were written."""


class UnsupportedVersionError(FormatError):
    """The file is of a version or uses a feature that this release does not read."""


class MalformedError(FormatError):
    """The checksums hold, but the content contradicts itself or the specification."""


class LimitError(FormatError):
    """The file asks for more memory than the limits of the format allow."""


class FloatOnlyError(FormatError):
    """A good file was given to an integer client that it is not for: one for float32 alone, or by
    Huffman codes."""
