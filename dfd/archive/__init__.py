"""Working through an archive with Ray Data: stages, progress, estimate."""
