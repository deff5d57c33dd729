"""The user's tables, derived from the committed segments. No video is opened."""
