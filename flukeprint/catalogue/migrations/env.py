"""What Alembic runs: the migrations, on the connection and in the transaction that database.py hands over."""

from alembic import context

from flukeprint.catalogue.entities import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
