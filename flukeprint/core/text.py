"""Text from files and folders of others, made safe to show."""


def printable(text: str) -> str:
    """Return text in which nothing can move a terminal's cursor or reverse the direction of writing."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def printable_lines(text: str) -> str:
    """Do that to each line; line breaks stay."""
    return "\n".join(map(printable, text.split("\n")))
