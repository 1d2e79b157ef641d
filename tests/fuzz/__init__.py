"""Readers of files, against any bytes.

``targets`` are the readers, each with good files to begin from (``seeds``) and changes that reach
behind checksums and lengths (``mutate``). ``contract`` is what holds for every input. ``python -m
tests.fuzz`` runs a target guided by coverage; ``test_fuzz`` runs a few hundred inputs of each.
"""
