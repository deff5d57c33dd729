"""A source of face pictures instead of videos: what it holds, as a manifest, plans and runs. No picture is read here."""
