"""Of what takes long each commit tries a share, and a few of them try it all."""

from tests.support.shares import later_cases, share_of

NODES = [f"tests/test_{file}.py::test_{number}[{number}]" for file in "abcdef" for number in range(100)]


def test_a_share_is_about_its_part_and_another_for_another_commit() -> None:
    shares = [[node for node in NODES if share_of(3, seed)(node)] for seed in ("one commit", "another")]
    assert all(150 <= len(share) <= 250 for share in shares)
    assert shares[0] != shares[1]


def test_it_is_the_same_for_all_workers() -> None:
    assert [node for node in NODES[:12] if share_of(3, "a commit")(node)] == [NODES[place] for place in (1, 6, 8, 10)]


def test_a_few_commits_have_tried_all() -> None:
    tried = {node for commit in range(30) for node in NODES if share_of(3, f"commit {commit}")(node)}
    assert tried == set(NODES)


def test_of_a_family_of_cases_all_but_the_first_come_later() -> None:
    ids = ["a.py::test_x[1]", "a.py::test_x[2]", "b.py::test_x[1]", "b.py::test_alone", "a.py::test_x[a[0]"]
    assert later_cases(ids) == {"a.py::test_x[2]", "a.py::test_x[a[0]"}
