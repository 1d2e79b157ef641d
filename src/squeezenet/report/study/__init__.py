"""The report of a study: tables, figures, and one HTML page.

In:  ``StudyResults`` (``results``): the trials of a study, with what was measured of each.
Out: a folder: ``study.html``, which needs nothing else; figures as PNG and SVG; ``trials.csv``.
"""
