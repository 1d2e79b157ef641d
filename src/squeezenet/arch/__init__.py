"""What a network is, without torch and without NumPy.

In:  a preset's name, metaparameters, or a spec written out by hand.
Out: a frozen spec (``spec``), its list of operations (``graph``), what they count
     (``counts``, ``plan``), and the record that travels in every model file
     (``record``, with the ``preprocessing``).
"""
