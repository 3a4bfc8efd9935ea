"""The model bundle: a folder that identifies whales on a machine without the project and its data."""
