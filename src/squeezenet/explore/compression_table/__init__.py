"""Table 2 of the SqueezeNet paper, made on a user's own images.

In:  labelled images, AlexNet and a SqueezeNet, one recipe.
Out: a folder (``StudyFolder``) with every network of the table, and a report.

``approaches`` lists the rows and what the paper has for them. ``options`` makes every choice.
``networks`` trains, factorises, prunes and compresses, a file per row. ``run`` goes through the
rows and measures each, on images that none has learned from.
"""
