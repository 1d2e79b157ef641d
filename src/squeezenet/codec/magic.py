"""How a ``.sqz`` file begins."""

MAGIC = b"\x89SQZ\r\n\x1a\n"
