"""squeezenet: image classifiers of a few hundred kilobytes that run anywhere.

Data flows one way, a folder a stage:

    arch -> model -> train -> compress -> codec -> FILE.sqz -> reference

Each folder's ``__init__`` says what enters it and what leaves it. Importing
``squeezenet`` imports none of them, so the light install stays light.
"""

__version__ = "0.1.0"
