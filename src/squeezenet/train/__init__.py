"""Training: from a model, data and a recipe to a run folder.

In:  what a user asked for (``plan``): data, and perhaps an architecture or a model to fine-tune.
Out: a run folder (``run_folder``): the best and last weights, the settings, metrics, and
     checkpoints. A killed run resumes from these, bit for bit.

``plan`` chooses what was not asked for, with ``start`` (the network at step 0) and ``recipe``.
``run`` trains a plan into a folder. ``fit`` is the training loop, which compression uses too.
"""
