"""The C runtime, range coder, trellis search and resize, compiled from ``native`` and ``runtime``.

Buffers are NumPy arrays, ``bytes``, ``bytearray`` or whatever else has the buffer protocol, and
C-contiguous. Buffers that are written must be writable. The interpreter lock is released while
weights are loaded, images run and outputs are rounded.
"""

from typing import Any, TypeAlias, final

_Buffer: TypeAlias = Any  # the stubs of NumPy declare no Buffer before Python 3.12

class _Coder:  # shared here alone; the compiled classes have no common base class
    """What encoder and decoder have in common.

    A method of an encoder codes its last argument and returns it. The same method of a decoder
    ignores that argument and returns what was coded. See spec/FORMAT.md, "The coder".
    """

    def bit(self, context: int, bit: bool = ..., /) -> bool:
        """Code a bit in an adaptive context, 0 to 4,095. Raises ValueError for another context."""
    def plain(self, count: int, value: int = ..., /) -> int:
        """Code ``count`` bits, at most 32, without a model, the highest first."""
    def number(self, slot: int, value: int = ..., /) -> int:
        """Code a number below 2^31 in magnitude in the 34 contexts from ``slot`` on."""
    def byte(self, before: int, byte: int = ..., /) -> int:
        """Code a byte of text that follows the byte ``before``."""
    def begin(self, inputs: int, height: int, width: int, trellis: bool = ..., /) -> None:
        """Begin a layer whose output channels have inputs x height x width weights."""
    def channel(self, levels: _Buffer, /) -> None:
        """Code one output channel of the layer in place; int16, in the order I, H, W.

        Raises ValueError: another number of levels than the layer's, a magnitude above 255, or
        levels that are not on the layer's trellis. After encoding on a trellis, ``levels`` still
        holds the levels.
        """

@final
class Encoder(_Coder):
    """Range encoder with adaptive contexts."""

    def __new__(cls) -> Encoder: ...
    def finish(self) -> bytes:
        """End the stream and return its bytes. Code nothing afterwards."""
    @property
    def size(self) -> int:
        """Bytes written so far, without those that ``finish`` adds."""

@final
class Decoder(_Coder):
    """Range decoder with adaptive contexts. Beyond the end of ``data`` it reads zeros."""

    def __new__(cls, data: bytes, /) -> Decoder: ...
    @property
    def at_end(self) -> bool:
        """Whether all bytes have been read, and at most four zeros beyond the end."""

@final
class NativeModel:
    """A ``.sqz`` file, loaded and ready to run.

    ``threads``, at most 64, compute one image together. ``streamed`` leaves the weights in
    ``data`` and unpacks them during each run. ``kernels`` is one of ``kernels()``; "" is the
    fastest. Any number of Python threads may call a model at once.

    Errors are ``ValueError(code, text)`` with an ``sqz_error`` of runtime/sqz.h as the code.
    """

    def __new__(
        cls, data: bytes, threads: int = ..., streamed: bool = ..., kernels: str = ...
    ) -> NativeModel: ...
    def run(self, pixels: _Buffer, logits: _Buffer, /) -> None:
        """Run cropped images: uint8 N x ``crop_shape`` to int32 N x ``num_classes``, in 1/65536."""
    def crop(self, picture: _Buffer, height: int, width: int, pixels: _Buffer, /) -> None:
        """Resize and crop RGB bytes (height, width, 3) into uint8 of ``crop_shape``."""
    def labels(self) -> tuple[int, bytes]:
        """Return the kind of class ids and the text of LABELS: spec/FORMAT.md, "LABELS"."""
    @property
    def crop_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the pixels that ``run`` takes."""
    @property
    def kernels(self) -> str:
        """Name of the kernels that run."""
    @property
    def arena_bytes(self) -> int:
        """Bytes of activations and scratch."""
    @property
    def memory_bytes(self) -> int:
        """Bytes of tables and, unless streamed, unpacked weights."""
    @property
    def num_classes(self) -> int:
        """Logits per image."""

STACK_BYTES: int
"""Upper bound of the stack that a function of the runtime needs."""

def kernels() -> list[str]:
    """Return the names of the kernels that run on this machine, the fastest first."""

def resize(
    picture: _Buffer,
    size: tuple[int, int],
    rectangle: tuple[int, int, int, int],
    resized: tuple[int, int],
    window: tuple[int, int, int, int],
    out: _Buffer,
    /,
) -> None:
    """Resize a rectangle of an RGB picture and write a window of the result.

    Args:
        picture: uint8, (height, width, 3); ``size`` is (height, width).
        rectangle: top, left, rows and columns of the part of the picture that is resized.
        resized: height and width that the rectangle becomes.
        window: top, left, rows and columns of the part of the result that is computed.
        out: uint8, (window rows, window columns, 3); written.

    Raises:
        ValueError: these do not fit together.
    """

def round_output(
    weight_P: _Buffer,
    upper_PP: _Buffer,
    columns_PP: _Buffer,
    zero: _Buffer,
    nonzero: _Buffer,
    magnitude: _Buffer,
    classes_P: _Buffer,
    codes_P: _Buffer,
    curvature: float,
    scale: float,
    kernel_size: int,
    survivors: int,
    trellis: bool,
    lambda_: float,
    /,
) -> float:
    """Round one output channel's P weights to codes by list Viterbi with error feedback.

    Minimises distortion + ``lambda_`` * bits, both in nats, and returns that minimum.

    Args:
        weight_P: float64; the weights, in the order I, H, W.
        upper_PP: float64; the upper Cholesky factor U of the inverse Hessian.
        columns_PP: float32; U transposed.
        zero, nonzero: float64, 16 x 9 x 16; bits of "is it zero" per sum of the kernel so far,
            place in the kernel, and activity class.
        magnitude: float64, 16 x 128; bits of sign and magnitude per activity class and code.
        classes_P: uint8; activity class of each weight, below 16.
        codes_P: int16; written.
        curvature: second derivative of the divergence with respect to the output.
        scale: value of level 1.
        kernel_size: height x width of the kernel.
        survivors: paths kept per trellis state, 1 to 16.
        trellis: codes are those of the trellis; otherwise they are levels.
        lambda_: Lagrange multiplier, nats per bit.

    Raises:
        ValueError: the arrays do not fit together.
    """

def round_levels(
    weight_OP: _Buffer,
    zero: _Buffer,
    nonzero: _Buffer,
    magnitude: _Buffer,
    classes_OP: _Buffer,
    codes_OP: _Buffer,
    num_weights: int,
    kernel_size: int,
    trellis: bool,
    lambda_: float,
    /,
) -> None:
    """Round a layer's weights to codes by the Viterbi algorithm, without error feedback.

    Minimises squared error + ``lambda_`` * bits in each output, P weights.

    Args:
        weight_OP: float64; the weights in units of a level, in the order O, I, H, W.
        zero, nonzero, magnitude, kernel_size, trellis: as in ``round_output``.
        classes_OP: uint8; activity class of each weight, below 16.
        codes_OP: int16; written.
        num_weights: P.
        lambda_: squared levels per bit.

    Raises:
        ValueError: the arrays do not fit together.
    """
