"""Datasets as people have them → labels, groups and splits, and everything in them that does not add up.

Nothing is guessed: a video whose label is unknown or contradictory is left out and reported.

`group` is a connected component of sources: a fake joins everything that it was made from, and whatever else was made
from that. It is called `DATASET:FIRST_MEMBER`. docs/datasets.md says what it means for each dataset.
"""
