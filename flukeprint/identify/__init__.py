"""Who is on this photo? Answers for new photos, from a gallery of known individuals."""
