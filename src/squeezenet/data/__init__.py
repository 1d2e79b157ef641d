"""Training sets on top of ``images``.

In:  a folder of images, split or not, or the word ``digits`` (``sources``).
Out: training and validation sets with class weights, and batches of randomly cropped pixels in
     an order that depends on seed and step alone (``loader``), augmented as tensors
     (``augment``).
"""
