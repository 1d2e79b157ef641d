"""The command line, thin: arguments in, one stage called, its result shown.

A command a module; torch and the like are imported inside the command, so that ``info`` and
``predict`` start quickly and work where they are not installed.
"""
