"""Opens a video, reads its header, and decodes exact frames. The only importer of av."""
