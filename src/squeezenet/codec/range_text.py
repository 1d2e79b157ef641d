"""Text <-> bytes of the range coder: spec/FORMAT.md, "Text". Each byte is foretold by the last."""

from __future__ import annotations

from squeezenet._native import Decoder, Encoder
from squeezenet.codec.reader import ByteReader
from squeezenet.errors import LimitError, MalformedError

MAX_TEXT_BYTES = 1 << 22
"""4 MiB: a hundred times what the names of 1,000 classes take."""


def encode_text(text: str) -> bytes:
    """Return a count of bytes (u32) and the coded text."""
    data = text.encode()
    assert len(data) <= MAX_TEXT_BYTES
    encoder = Encoder()
    before = 0
    for byte in data:
        before = encoder.byte(before, byte)
    return len(data).to_bytes(4, "little") + encoder.finish()


def decode_text(reader: ByteReader) -> str:
    """Read ``encode_text``'s bytes, all that the reader has.

    Raises:
        MalformedError, LimitError: they are not such bytes.
    """
    (num_bytes,) = reader.unpack("<I")
    if num_bytes > MAX_TEXT_BYTES:
        raise LimitError(f"{reader.where}: a text of {num_bytes} bytes")
    decoder = Decoder(reader.rest())
    data = bytearray(num_bytes)
    before = 0
    for i in range(num_bytes):
        before = data[i] = decoder.byte(before)
    if not decoder.at_end:
        raise MalformedError(f"{reader.where}: the text does not end where its section does")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MalformedError(f"{reader.where}: the text is not UTF-8") from None
