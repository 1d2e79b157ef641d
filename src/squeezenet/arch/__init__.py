"""Describe a network, without torch and without NumPy.

In:  a preset's name, metaparameters, or a spec written out by hand.
Out: a frozen spec (``spec``); its list of operations (``graph``); parameters, MACs and memory
     (``counts``, ``liveness``); the record stored in every model file (``record``, with the
     ``preprocessing``).
"""
