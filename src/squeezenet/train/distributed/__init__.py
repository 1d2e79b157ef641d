"""Training by many processes, on one machine or many, on PyTorch's own distributed engine.

In:  processes that torchrun started, each with the same arguments.
Out: the same training in each: DistributedDataParallel averages the gradients, every rank evaluates
     a part of the images, rank 0 alone writes.

``group`` joins the processes, which meet in ``rendezvous``; ``ranks`` has what they say to each
other, ``gradients`` wraps the network, ``evaluation`` divides the images. One process
alone is the job of one rank: nothing here is then used but ``ONE_RANK``. See docs/distributed.md.
"""
