"""Spec -> torch module, and foreign weights in.

In:  a spec (``network``), or a file of weights: ours, torchvision's, Han's (``load``).
Out: a ``LoadedModel``: the record and a torch module with torchvision's state_dict keys;
     written back as ``.safetensors`` (``safetensors_file``), with batch normalisation folded
     (``fold``). ``published`` knows the weights that others published and fetches them; it
     alone needs no torch.
"""
