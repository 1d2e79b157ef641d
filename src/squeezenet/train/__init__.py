"""A recipe and data -> a trained run.

In:  a model, training data and a ``Recipe``.
Out: a run folder (``run_folder``) with the best and last weights, the settings, metrics, and
     checkpoints from which a killed run goes on bit for bit. ``fit`` is the loop, used by
     compression as well; ``run`` is what ``squeezenet train`` does.
"""
