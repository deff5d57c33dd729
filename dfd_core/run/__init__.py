"""One run: its output folder, commit log, work list, record and estimate."""
