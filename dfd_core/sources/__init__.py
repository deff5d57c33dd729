"""From any source to the manifest: folders, globs, manifests, dataset layouts, pictures of faces."""
