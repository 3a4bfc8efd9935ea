"""Migrations of the database, by Alembic; flukeprint/catalogue/database.py runs them."""
