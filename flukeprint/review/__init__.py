"""The review page: people decide in a browser, and every decision goes into the catalogue's log."""
