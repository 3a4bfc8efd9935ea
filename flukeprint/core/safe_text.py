"""Text from files and folders of others, made safe to show."""

# What a spreadsheet takes for the start of a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(value: object) -> str:
    """Return a value as text in which nothing can move a terminal's cursor or reverse the direction of writing."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def spreadsheet_cell(text: str) -> str:
    """Return text that no spreadsheet runs: one that starts like a formula gets an apostrophe, which is not shown."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(FORMULA) else shown


def printable_lines(text: str) -> str:
    """Make each line printable; line breaks stay."""
    return "\n".join(map(printable, text.split("\n")))
