"""A column of ids: read as UUIDs are, and only as the API writes them."""

from uuid import UUID, uuid4

import pytest

from sync.core.uuids import UuidColumn

ID = "8c364829-c7ae-4972-b67f-93ea704d7228"
SPOILED = [
    "",
    ID[:-1],
    ID + "0",
    ID.replace("-", ""),
    ID.replace("8", "g"),
    ID.replace("8", "-"),
    ID.replace("8", " "),
    ID.replace("8", "٣"),
    ID.replace("-", "0"),
    ID.replace("-", " "),
    "{" + ID[:-2] + "}",
    ID[1:] + "-",
]


def test_ids_come_as_uuids_and_as_bytes() -> None:
    ids = [uuid4() for _ in range(5)]
    column = UuidColumn([str(ids[0]).upper(), *map(str, ids[1:])])
    assert list(column) == ids
    assert column.packed == b"".join(one.bytes for one in ids)
    assert (len(column), column[2], list(column[1:3])) == (5, ids[2], ids[1:3])


def test_there_may_be_none() -> None:
    assert list(UuidColumn([])) == []


@pytest.mark.parametrize("spoiled", SPOILED, ids=ascii)
def test_a_spoiled_one_is_refused(spoiled: str) -> None:
    with pytest.raises(ValueError, match=r"an id|hex"):
        UuidColumn([ID, spoiled, ID])


def test_two_that_are_spoiled_do_not_make_up_for_each_other() -> None:
    with pytest.raises(ValueError, match="36 characters"):
        UuidColumn([ID + "0", ID[:-1]])
    assert UUID(ID) == UuidColumn([ID])[0]


def test_how_often_each_one_comes_is_counted_however_it_is_written() -> None:
    other = str(uuid4())
    assert UuidColumn([ID, other, ID.upper()]).counts() == {UUID(ID): 2, UUID(other): 1}
    assert UuidColumn([ID, other]).is_distinct()
    assert not UuidColumn([ID, other, ID.upper()]).is_distinct()
