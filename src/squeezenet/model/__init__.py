"""Torch modules: built from a spec, or read from a file of weights.

In:  a spec (``network``), or a file of weights: ours, Han's, or of others (``load``, ``foreign``).
Out: a ``LoadedModel``: the record and a torch module with torchvision's state_dict keys. It is
     written as ``.safetensors`` (``safetensors_file``), or its batch normalisation is folded
     (``fold``). ``published`` fetches weights that others published; only it needs no torch.
"""
