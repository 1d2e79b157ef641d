"""Client artefacts of a ``.sqz``: folders that need nothing of squeezenet to be built.

In:  a ``.sqz`` file for integer clients.
Out: for ``c``, a folder that any C99 compiler turns into a program.
"""
