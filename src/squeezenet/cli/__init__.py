"""The command line, a thin layer: parse arguments, call one stage, show its result.

One module per command. torch and other slow or optional packages are imported inside the command:
``info`` and ``predict`` start quickly, and work where those are not installed.

In:  the words of a command line.
Out: results on stdout, progress and one-line errors on stderr, an exit code.
"""
