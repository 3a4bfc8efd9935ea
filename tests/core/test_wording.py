import pytest

from flukeprint.core.wording import counted


@pytest.mark.parametrize(
    ("number", "noun", "says"),
    [
        (0, "photo", "0 photos"),
        (1, "photo", "1 photo"),
        (2, "new encounter", "2 new encounters"),
        (1234, "row", "1,234 rows"),
    ],
)
def test_a_number_with_its_noun(number, noun, says):
    assert counted(number, noun) == says
