"""One module per version of the database, oldest first."""
