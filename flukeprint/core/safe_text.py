"""Text from files and folders of others, made safe to show."""

import unicodedata

# What a spreadsheet takes for the start of a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(value: object) -> str:
    """Return a value as text in which nothing can move a terminal's cursor or reverse the direction of writing."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def spreadsheet_cell(text: str) -> str:
    """Return text that no spreadsheet runs: one that starts like a formula gets an apostrophe, which is not shown.

    So does one that starts like such an escaped text: two texts never become one, and `cell_text` undoes it.
    """
    shown = printable(text)
    return f"'{shown}" if _like_a_formula(shown) else shown


def cell_text(cell: str) -> str:
    """Return the text that `spreadsheet_cell` made a cell of."""
    return cell[1:] if cell.startswith("'") and _like_a_formula(cell) else cell


def _like_a_formula(text: str) -> bool:
    return text.lstrip("'").startswith(FORMULA)


def told_apart(name: str, other: str) -> str:
    """Quote `other` such that it looks different from `name`, with escapes where both would be printed alike."""
    same = unicodedata.normalize("NFKC", name) == unicodedata.normalize("NFKC", other)
    return ascii(other) if same else repr(other)


def printable_lines(text: str) -> str:
    """Make each line printable; line breaks stay."""
    return "\n".join(map(printable, text.split("\n")))
