"""The label that is no individual's."""

# The competition's label for a whale without a known identity. Two photos with it usually show two whales.
NEW_WHALE = "new_whale"
