"""Pages for people who look at a finished run: the offline review page and the report of one video."""
