"""The fixture ``read``: the reader in C."""

from tests.runtime.c_reader import read

__all__ = ["read"]
