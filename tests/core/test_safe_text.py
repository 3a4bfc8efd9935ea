"""Text of others in spreadsheets and messages."""

from hypothesis import given
from hypothesis import strategies as st

from flukeprint.core.safe_text import FORMULA, cell_text, printable, spreadsheet_cell, told_apart


@given(st.text("'=+-@\t a1\u0301", max_size=6))
def test_a_cell_runs_nothing_and_is_undone(text):
    cell = spreadsheet_cell(text)
    assert not cell.startswith(FORMULA)
    assert cell_text(cell) == printable(text)


def test_names_that_print_alike_are_shown_with_escapes():
    assert told_apart("Jos\u00e9", "Jose\u0301") == r"'Jose\u0301'"
    assert told_apart("a.jpg", "A.jpg") == "'A.jpg'"
