import csv
import io
import os
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.tables import MAX_LINE, read_table, require_table

ROWS = "Image,Id\na.jpg,w_1\nb.jpg,w_2\n"


@pytest.fixture
def table(tmp_path):
    def write(content, **options):
        path = tmp_path / "train.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_table(path, **options)

    return write


@pytest.mark.parametrize(
    "content",
    [
        ROWS,
        ROWS.rstrip("\n"),
        "\ufeff" + ROWS,
        ROWS.replace("\n", "\r\n"),
        ROWS.replace("\n", "\r"),
        ROWS.replace("\n", "\n\n"),
        '"Image","Id"\n"a.jpg","w_1"\nb.jpg,"w_2"\n',
    ],
    ids=["plain", "no last line end", "BOM", "CRLF", "CR", "blank lines", "quotes"],
)
def test_what_spreadsheets_write_is_read(table, content):
    read = table(content)
    assert read.readable
    assert not read.faults
    assert read.frame[["Image", "Id"]].to_numpy().tolist() == [["a.jpg", "w_1"], ["b.jpg", "w_2"]]


@pytest.mark.parametrize("header", ["Image,Id,encounter,taken_at", "Image,Id,taken_at,encounter", "Image,Id,encounter"])
def test_optional_columns_may_follow_in_any_order(table, header):
    names = header.split(",")
    read = table(f"{header}\n{','.join(names)}\n{','.join('abcd'[: len(names)])}\n", optional=("encounter", "taken_at"))
    assert read.columns == tuple(names)
    assert read.frame[names].to_numpy().tolist() == [list("abcd"[: len(names)])]
    assert [fault for _, fault in read.faults] == ["the header once more"]
    assert not table(f"{header}\n").header_is_right


@pytest.mark.parametrize(
    "header", ["Image,encounter,Id", "Image,Id,encouter", "Image,Id,taken_at,taken_at", "Image,Id,"]
)
def test_other_columns_are_no_optional_ones(table, header):
    read = table(f"{header}\na,b,c,d\n", optional=("encounter", "taken_at"))
    assert not read.header_is_right
    assert read.columns == ("Image", "Id")


def test_rows_are_numbered_as_in_a_text_editor(table):
    read = table('Image,Id\n\na.jpg,"w\n1"\nb.jpg,w_2\n')
    assert read.frame["csv_line"].tolist() == [3, 5]


@pytest.mark.parametrize(
    ("content", "row", "fault"),
    [
        ("Image,Id\na.jpg,w_1\nb.jpg\n", 3, "1 cell (b.jpg), expected 2"),
        ("Image,Id\na.jpg,w_1,,\n", 2, "4 cells (a.jpg,w_1,,), expected 2"),
        ("Image,Id\na.jpg,w_1\nImage,Id\nb.jpg,w_2\n", 3, "the header once more"),
        (b"Image,Id\na.jpg,w_1\nb.jpg,w\xe9\n", 3, "not UTF-8 (b.jpg,w\\xe9)"),
        (b"Image,Id\na.jpg,w_1\nb\0.jpg,w_2\n", 3, "a NUL byte"),
    ],
    ids=["too few", "too many", "second header", "Latin-1", "NUL"],
)
def test_a_faulty_row_is_named_and_the_others_are_read(table, content, row, fault):
    read = table(content)
    assert read.readable
    assert [number for number, _ in read.faults] == [row]
    assert fault in read.faults[0][1]
    assert row not in read.frame["csv_line"].tolist()


@pytest.mark.parametrize(
    ("content", "row", "fault"),
    [
        ('Image,Id\na.jpg,"w_1\nb.jpg,w_2\n', 2, "not valid CSV"),
        ('Image,Id\na.jpg,"w"1\nb.jpg,w_2\n', 2, "not valid CSV"),
        ('Image,Id\na.jpg,w_1\nb.jpg,"' + "x\n" * 100_000, 3, "not valid CSV"),
        ("Image,Id\na.jpg," + "x" * (2 * MAX_LINE), 2, "a line of more than"),
        (ROWS.encode("utf-16"), 1, "UTF-16"),
        (b"PK\x03\x04" + bytes(100), 1, "Excel"),
        ("\0" * 1_000_000, 1, "a line of more than"),
    ],
    ids=["unclosed quote", "stray quote", "endless quote", "endless line", "UTF-16", "workbook", "zeros"],
)
def test_where_reading_cannot_go_on_the_row_is_named(table, content, row, fault):
    read = table(content)
    assert not read.readable
    assert read.faults[-1][0] == row
    assert fault in read.faults[-1][1]


@pytest.mark.parametrize("header", ["image,id", "Image;Id", "Id,Image", "Image,Id,", "Image", "a.jpg,w_1"])
def test_another_header_is_not_guessed_at(table, header):
    read = table(f"{header}\na.jpg,w_1\n")
    assert not read.readable
    assert read.header == header
    assert read.frame.empty


def test_an_empty_file_has_no_header(table):
    assert table("").header is None


def test_more_rows_than_the_bound_are_not_read(table):
    read = table(ROWS, max_rows=1)
    assert not read.readable
    assert len(read.frame) == 1


def test_empty_cells_are_null(table):
    assert table("Image,Id\n,w_1\nb.jpg,\n").frame[["Image", "Id"]].isna().to_numpy().tolist() == [
        [True, False],
        [False, True],
    ]


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to(tmp_path / "nowhere")
    assert read_table(tmp_path / "pipe.csv").missing == "is not a regular file"
    assert read_table(tmp_path).missing == "is not a regular file"
    assert read_table(tmp_path / "no.csv").missing == "is missing"
    assert "cannot be read" in (read_table(tmp_path / "link.csv").missing or "")


def test_faults_are_counted_beyond_those_kept(table):
    read = table("Image,Id\n" + "x\n" * 3000)
    assert read.faulty == 3000
    assert len(read.faults) == 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing"),
        ("Image,Label\n", "row 1: the header is 'Image,Label', expected 'Image,Id'"),
        ("", "the file is empty"),
        ("Image,Id\na\n", "row 2: 1 cell"),
        (ROWS, "more than 1 rows"),
    ],
)
def test_require_table_names_file_row_and_fault(tmp_path, content, message):
    path = tmp_path / "train.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(FlukeprintError, match=message) as caught:
        require_table(path, max_rows=1)
    assert "train.csv" in str(caught.value)


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELL, CELL)), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_what_a_csv_writer_writes_is_read_back(tmp_path_factory, rows, end, mark):
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(["Image", "Id"])
    writer.writerows(rows)
    path = tmp_path_factory.mktemp("csv") / "train.csv"
    path.write_bytes(("\ufeff" * mark + stream.getvalue()).encode())
    read = read_table(path)
    expected = [row for row in rows if row != ("Image", "Id")]
    assert [tuple(row) for row in read.frame[["Image", "Id"]].to_numpy()] == expected
    assert len(read.faults) == len(rows) - len(expected)


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=300) | st.text(string.printable, max_size=300).map(lambda text: b"Image,Id\n" + text.encode())
)
def test_no_bytes_make_reading_fail(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("csv") / "train.csv"
    path.write_bytes(content)
    read = read_table(path)
    assert len(read.frame) + read.faulty >= read.rows
    assert all("\n" not in fault and fault.isprintable() for _, fault in read.faults)
