"""Text <-> bytes of the range coder: spec/FORMAT.md, "Text". A byte's context is the one before."""

from __future__ import annotations

from squeezenet._native import Decoder, Encoder
from squeezenet.codec.reader import ByteReader
from squeezenet.errors import LimitError, MalformedError

MAX_TEXT_BYTES = 1 << 22
"""spec/FORMAT.md, "Limits": 4 MiB. The names of ImageNet's 1,000 classes have 10 KB."""


def encode_text(text: str) -> bytes:
    """Return the number of bytes (u32) and the coded text; at most ``MAX_TEXT_BYTES`` of UTF-8."""
    data = text.encode()
    assert len(data) <= MAX_TEXT_BYTES
    encoder = Encoder()
    previous = 0
    for byte in data:
        previous = encoder.byte(previous, byte)
    return len(data).to_bytes(4, "little") + encoder.finish()


def decode_text(reader: ByteReader) -> str:
    """Read ``encode_text``'s bytes: all that are left in the reader.

    Raises:
        LimitError: the text is longer than ``MAX_TEXT_BYTES``.
        MalformedError: the bytes are not such a text.
    """
    (num_bytes,) = reader.unpack("<I")
    if num_bytes > MAX_TEXT_BYTES:
        raise LimitError(
            f"{reader.where}: text of {num_bytes} bytes, expected at most {MAX_TEXT_BYTES}"
        )
    decoder = Decoder(reader.rest())
    data = bytearray(num_bytes)
    previous = 0
    for i in range(num_bytes):
        previous = data[i] = decoder.byte(previous)
    if not decoder.at_end:
        raise MalformedError(f"{reader.where}: the text does not end where its section ends")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MalformedError(f"{reader.where}: the text is not UTF-8") from None
