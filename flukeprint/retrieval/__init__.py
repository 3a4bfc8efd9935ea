"""The one way from vectors to candidates: the gallery, its files, and the search in it."""
