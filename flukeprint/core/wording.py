"""Numbers in sentences."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, which takes an s but for one: 1 photo, 1,234 new encounters."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
