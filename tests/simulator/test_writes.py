"""Adding and deleting codes: all or nothing."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.simulator.helpers import PORTFOLIO, Rig


def message(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["Message"]


async def test_an_add_answers_with_the_new_codes_and_their_ids(rig: Rig) -> None:
    rig.time.advance(0.7)
    validity = {"ValidityStartUtc": "2026-05-01T00:00:00.9Z", "ValidityEndUtc": "2026-05-01T00:00:00Z"}
    item = {"VoucherId": str(rig.voucher.id), "Value": "A"} | validity
    answer = await rig.call("voucherCodes/add", VoucherCodeParameters=[item])
    [code] = answer.json()["VoucherCodes"]
    assert UUID(code.pop("Id")) in rig.world.codes.truth
    assert code == {
        "VoucherId": str(rig.voucher.id),
        "Value": "A",
        "ValidityStartUtc": "2026-05-01T00:00:00Z",
        "ValidityEndUtc": "2026-05-01T00:00:00Z",
        "CreatedUtc": "2026-03-01T12:00:00Z",
        "UpdatedUtc": "2026-03-01T12:00:00Z",
        "IsActive": True,
        "ActivityState": "Active",
    }
    assert await rig.values() == ["A"]
    assert list(answer.json()) == ["VoucherCodes"]


async def test_the_order_of_added_codes_may_be_any(rig: Rig) -> None:
    values = [f"{number:02}" for number in range(50)]
    rig.simulator.behaviour.shuffle_added = True
    codes = (await rig.write(*values)).json()["VoucherCodes"]
    answered = [code["Value"] for code in codes]
    assert answered != values
    assert sorted(answered) == values
    assert all(rig.world.codes.truth[UUID(code["Id"])].value == code["Value"] for code in codes)


@pytest.mark.parametrize("values", [("taken",), ("new", "taken"), ("twice", "twice")])
async def test_a_duplicate_of_an_active_code_refuses_the_whole_add(rig: Rig, values: tuple[str, ...]) -> None:
    rig.add("taken")
    answer = await rig.write(*values)
    assert message(answer) == (403, "A voucher code with the same value already exists")
    assert len(rig.world.codes.truth) == 1
    assert rig.simulator.violations == []


async def test_a_value_is_free_again_after_deletion_and_in_another_voucher(rig: Rig) -> None:
    [code] = rig.add("taken")
    second = rig.world.add_voucher(rig.service.id, "Second")
    item = {"VoucherId": str(second.id), "Value": "taken"}
    assert (await rig.call("voucherCodes/add", VoucherCodeParameters=[item])).status_code == 200
    assert (await rig.write("Taken")).status_code == 200
    rig.world.edit_code(code.id, value="renamed")
    assert (await rig.write("taken")).status_code == 200
    assert (await rig.write("renamed")).status_code == 403
    assert (await rig.erase(code)).status_code == 200
    assert (await rig.write("renamed")).status_code == 200


async def test_duplicates_may_be_allowed(rig: Rig) -> None:
    rig.simulator.behaviour.allow_duplicates = True
    assert (await rig.write("same", "same")).status_code == 200
    assert await rig.values() == ["same", "same"]


async def test_a_refused_value_refuses_the_whole_add_without_being_named(rig: Rig) -> None:
    rig.simulator.behaviour.refused_values = {"poison"}
    answer = await rig.write("fine", "poison")
    assert answer.status_code == 403
    assert "poison" not in answer.text
    assert rig.world.codes.truth == {}
    assert (await rig.write("fine")).status_code == 200


@pytest.mark.parametrize("which", ["unknown", "out of scope", "deleted"])
async def test_an_add_to_a_voucher_that_is_not_there_refuses_all_items(rig: Rig, which: str) -> None:
    deleted = rig.world.deactivate_voucher(rig.world.add_voucher(rig.service.id, "Gone").id)
    wrong = {"unknown": uuid4(), "out of scope": rig.other_voucher.id, "deleted": deleted.id}[which]
    items = [{"VoucherId": str(voucher_id), "Value": "A"} for voucher_id in (rig.voucher.id, wrong)]
    answer = await rig.call("voucherCodes/add", VoucherCodeParameters=items)
    assert message(answer) == (400, "Invalid VoucherId")
    assert rig.world.codes.truth == {}
    assert rig.simulator.violations == []


async def test_a_deleted_code_stays_readable_with_a_new_update_time(rig: Rig) -> None:
    [code, kept] = rig.add("A", "B")
    rig.time.advance(60)
    answer = await rig.erase(code)
    assert (answer.status_code, answer.content) == (200, b"{}")
    [first, second] = (await rig.read()).json()["VoucherCodes"]
    assert (first["Id"], first["IsActive"], first["UpdatedUtc"]) == (str(code.id), False, "2026-03-01T12:01:00Z")
    assert (second["Id"], second["IsActive"]) == (str(kept.id), True)


async def deletion_of(rig: Rig, which: str) -> Any:
    """Deletes a good code together with a bad one."""
    [good, deleted] = rig.add("good", "deleted")
    [foreign] = rig.world.add_codes(rig.other_voucher.id, ["foreign"])
    rig.world.delete_code(deleted.id)
    wrong = {"unknown": uuid4(), "already deleted": deleted.id, "out of scope": foreign.id}[which]
    return await rig.call("voucherCodes/delete", VoucherCodeIds=[str(good.id), str(wrong)])


@pytest.mark.parametrize("which", ["unknown", "already deleted", "out of scope"])
async def test_a_strict_delete_refuses_all_for_one_bad_id(rig: Rig, which: str) -> None:
    assert message(await deletion_of(rig, which)) == (400, "Invalid VoucherCodeIds")
    assert {code.value for code in rig.world.codes.truth.values() if code.is_active} == {"good", "foreign"}
    assert rig.simulator.violations == []


@pytest.mark.parametrize("which", ["unknown", "already deleted", "out of scope"])
async def test_a_lenient_delete_passes_over_bad_ids(rig: Rig, which: str) -> None:
    rig.simulator.behaviour.lenient_delete = True
    assert (await deletion_of(rig, which)).status_code == 200
    assert {code.value for code in rig.world.codes.truth.values() if code.is_active} == {"foreign"}


async def test_an_id_given_twice_is_deleted_once(rig: Rig) -> None:
    [code] = rig.add("A")
    assert (await rig.erase(code, code)).status_code == 200


async def test_a_portfolio_write_needs_an_enterprise(rig: Rig) -> None:
    [code] = rig.add("A")
    for answer in (await rig.write("B", token=PORTFOLIO), await rig.erase(code, token=PORTFOLIO)):
        assert message(answer) == (400, "Invalid EnterpriseId")
    assert len(rig.simulator.violations) == 2
    assert list(rig.world.codes.truth.values()) == [code]


@pytest.mark.parametrize("which", ["unknown", "out of scope"])
async def test_a_portfolio_write_for_an_unseen_enterprise_is_invalid(rig: Rig, which: str) -> None:
    enterprise = uuid4() if which == "unknown" else rig.world.add_enterprise("Hotel C").id
    answer = await rig.write("B", token=PORTFOLIO, EnterpriseId=str(enterprise))
    assert message(answer) == (400, "Invalid EnterpriseId")
    assert rig.simulator.violations == []


async def test_a_portfolio_write_reaches_only_the_enterprise_it_names(rig: Rig) -> None:
    [code] = rig.add("A")
    ours, theirs = ({"token": PORTFOLIO, "EnterpriseId": str(hotel.id)} for hotel in (rig.hotel, rig.other_hotel))
    assert message(await rig.write("B", **theirs)) == (400, "Invalid VoucherId")
    assert message(await rig.erase(code, **theirs)) == (400, "Invalid VoucherCodeIds")
    assert (await rig.write("B", **ours)).status_code == 200
    assert (await rig.erase(code, **ours)).status_code == 200


async def test_a_plain_token_may_name_any_enterprise(rig: Rig) -> None:
    [code] = rig.add("A")
    for enterprise in (uuid4(), rig.other_hotel.id):
        assert (await rig.write(f"B{enterprise}", EnterpriseId=str(enterprise))).status_code == 200
    assert (await rig.erase(code, EnterpriseId=str(uuid4()))).status_code == 200


async def test_writes_may_become_readable_late(rig: Rig) -> None:
    [old] = rig.add("old", minutes_ago=5)
    rig.simulator.behaviour.hide_writes_for_s = 10
    [new] = (await rig.write("new")).json()["VoucherCodes"]
    assert (await rig.erase(old)).status_code == 200
    rig.time.advance(9.9)
    [code] = (await rig.read()).json()["VoucherCodes"]
    assert (code["Value"], code["IsActive"]) == ("old", True)
    assert await rig.values(VoucherCodeIds=[new["Id"]]) == []
    assert (await rig.write("new")).status_code == 403
    rig.time.advance(0.1)
    codes = (await rig.read()).json()["VoucherCodes"]
    assert {(code["Value"], code["IsActive"], code["UpdatedUtc"]) for code in codes} == {
        ("new", True, "2026-03-01T12:00:00Z"),
        ("old", False, "2026-03-01T12:00:00Z"),
    }


async def test_a_newer_change_is_not_undone_by_a_hidden_older_one(rig: Rig) -> None:
    rig.simulator.behaviour.hide_writes_for_s = 10
    await rig.write("A", "B")
    [first, second] = rig.world.codes.truth.values()
    rig.time.advance(5)
    rig.world.edit_code(first.id, value="A2")
    rig.world.hard_delete_code(second.id)
    assert await rig.values() == ["A2"]
    rig.time.advance(60)
    assert await rig.values() == ["A2"]


async def test_a_hidden_change_is_not_undone_by_an_older_one_that_is_hidden_for_longer(rig: Rig) -> None:
    rig.simulator.behaviour.hide_writes_for_s = 10
    await rig.write("A")
    rig.simulator.behaviour.hide_writes_for_s = 1
    await rig.erase(*rig.world.codes.truth.values())
    for seconds in (1, 10):
        rig.time.advance(seconds)
        [code] = (await rig.read()).json()["VoucherCodes"]
        assert not code["IsActive"]
