"""The exceptions that a user is meant to read."""


class FlukeprintError(Exception):
    """Bad input or an impossible request.

    The message names the file or key, the value found, what was expected and how to repair it.
    """


class MissingFileError(FlukeprintError):
    """A file is not there."""
