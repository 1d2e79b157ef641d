"""The public Python functions: what the commands call, and what a user's own program may call.

In:  paths and words as a command line has them (a model argument, a data argument), typed options.
Out: models that are ready to run (``open_model``), and what a command prints.

Heavy imports (torch) happen inside the functions that need them.
"""
