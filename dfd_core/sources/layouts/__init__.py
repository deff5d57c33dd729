"""Datasets in their official layouts → labels, groups and splits, and a list of what contradicts them.

Nothing is guessed: a video whose label is unknown or contradictory is left out and reported.

`group` is a connected component of sources: a fake joins the footage that it was made from with everything else made
from that footage. Its name is `DATASET:FIRST_MEMBER`. docs/datasets.md says what it means for each dataset.
"""
