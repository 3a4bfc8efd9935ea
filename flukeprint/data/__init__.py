"""Photos and tables: where they come from, what is in them, which are set aside, and a sample of our own."""
