"""The catalogue: individuals, encounters, photos and people's decisions, in a database. Nothing is ever deleted."""
