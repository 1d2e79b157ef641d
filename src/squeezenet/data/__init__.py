"""Training and validation sets, and batches of augmented images.

In:  a folder of images, split or not, or the word ``digits`` (``sources``).
Out: training and validation sets with class weights (``split``), and batches of randomly cropped
     pixels (``loader``), augmented as tensors (``augment``). The order of the batches depends on
     the seed and the step alone.
"""
