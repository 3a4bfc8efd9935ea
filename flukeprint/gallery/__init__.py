"""The gallery: the labelled photos that queries are compared with, as vectors, and its files."""
