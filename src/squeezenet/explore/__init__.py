"""Exploration of the design space: from data and a question to a study folder.

In:  labelled images, and a sweep of the family's metaparameters (``sweeps``), or budgets for a
     search (``search``); one shared recipe.
Out: a study folder (``study_folder``): a run folder per trial, Optuna's database, tables, figures
     and one HTML page.

``sweeps`` says which networks a study compares. ``study`` keeps its trials in Optuna's storage
(``storage``), from which ``worker`` processes take them one by one; ``trial`` trains and measures
one. ``pool`` starts the workers of one machine and shows their progress, ``run`` is the whole.
``space``, ``costs`` and ``budgets`` are what a search chooses from, and by; ``search_trial`` is a
trial of it, ``finalists`` are compressed. ``compression_table`` is the paper's table 2.
"""
