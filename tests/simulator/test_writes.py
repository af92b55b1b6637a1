"""Adding and deleting codes: all or nothing."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.simulator.helpers import PORTFOLIO, Stage


def message(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["Message"]


async def test_an_add_answers_with_the_new_codes_and_their_ids(stage: Stage) -> None:
    stage.time.advance(0.7)
    validity = {"ValidityStartUtc": "2026-05-01T00:00:00.9Z", "ValidityEndUtc": "2026-05-01T00:00:00Z"}
    item = {"VoucherId": str(stage.voucher.id), "Value": "A"} | validity
    answer = await stage.call("voucherCodes/add", VoucherCodeParameters=[item])
    [code] = answer.json()["VoucherCodes"]
    assert UUID(code.pop("Id")) in stage.world.codes.truth
    assert code == {
        "VoucherId": str(stage.voucher.id),
        "Value": "A",
        "ValidityStartUtc": "2026-05-01T00:00:00Z",
        "ValidityEndUtc": "2026-05-01T00:00:00Z",
        "CreatedUtc": "2026-03-01T12:00:00Z",
        "UpdatedUtc": "2026-03-01T12:00:00Z",
        "IsActive": True,
        "ActivityState": "Active",
    }
    assert await stage.values() == ["A"]
    assert list(answer.json()) == ["VoucherCodes"]


async def test_the_order_of_added_codes_may_be_any(stage: Stage) -> None:
    values = [f"{number:02}" for number in range(50)]
    stage.simulator.behaviour.shuffle_added = True
    codes = (await stage.write(*values)).json()["VoucherCodes"]
    answered = [code["Value"] for code in codes]
    assert answered != values
    assert sorted(answered) == values
    assert all(stage.world.codes.truth[UUID(code["Id"])].value == code["Value"] for code in codes)


@pytest.mark.parametrize("values", [("taken",), ("new", "taken"), ("twice", "twice")])
async def test_a_duplicate_of_an_active_code_refuses_the_whole_add(stage: Stage, values: tuple[str, ...]) -> None:
    stage.add("taken")
    answer = await stage.write(*values)
    assert message(answer) == (403, "A voucher code with the same value already exists")
    assert len(stage.world.codes.truth) == 1
    assert stage.simulator.violations == []


async def test_a_value_is_free_again_after_deletion_and_in_another_voucher(stage: Stage) -> None:
    [code] = stage.add("taken")
    second = stage.world.add_voucher(stage.service.id, "Second")
    item = {"VoucherId": str(second.id), "Value": "taken"}
    assert (await stage.call("voucherCodes/add", VoucherCodeParameters=[item])).status_code == 200
    assert (await stage.write("Taken")).status_code == 200
    stage.world.edit_code(code.id, value="renamed")
    assert (await stage.write("taken")).status_code == 200
    assert (await stage.write("renamed")).status_code == 403
    assert (await stage.erase(code)).status_code == 200
    assert (await stage.write("renamed")).status_code == 200


async def test_duplicates_may_be_allowed(stage: Stage) -> None:
    stage.simulator.behaviour.allow_duplicates = True
    assert (await stage.write("same", "same")).status_code == 200
    assert await stage.values() == ["same", "same"]


async def test_a_refused_value_refuses_the_whole_add_without_being_named(stage: Stage) -> None:
    stage.simulator.behaviour.refused_values = {"poison"}
    answer = await stage.write("fine", "poison")
    assert answer.status_code == 403
    assert "poison" not in answer.text
    assert stage.world.codes.truth == {}
    assert (await stage.write("fine")).status_code == 200


@pytest.mark.parametrize("which", ["unknown", "out of scope", "deleted"])
async def test_an_add_to_a_voucher_that_is_not_there_refuses_all_items(stage: Stage, which: str) -> None:
    deleted = stage.world.deactivate_voucher(stage.world.add_voucher(stage.service.id, "Gone").id)
    wrong = {"unknown": uuid4(), "out of scope": stage.other_voucher.id, "deleted": deleted.id}[which]
    items = [{"VoucherId": str(voucher_id), "Value": "A"} for voucher_id in (stage.voucher.id, wrong)]
    answer = await stage.call("voucherCodes/add", VoucherCodeParameters=items)
    assert message(answer) == (400, "Invalid VoucherId")
    assert stage.world.codes.truth == {}
    assert stage.simulator.violations == []


async def test_a_deleted_code_stays_readable_with_a_new_update_time(stage: Stage) -> None:
    [code, kept] = stage.add("A", "B")
    stage.time.advance(60)
    answer = await stage.erase(code)
    assert (answer.status_code, answer.content) == (200, b"{}")
    [first, second] = (await stage.read()).json()["VoucherCodes"]
    assert (first["Id"], first["IsActive"], first["UpdatedUtc"]) == (str(code.id), False, "2026-03-01T12:01:00Z")
    assert (second["Id"], second["IsActive"]) == (str(kept.id), True)


async def deletion_of(stage: Stage, which: str) -> Any:
    """Deletes a good code together with a bad one."""
    [good, deleted] = stage.add("good", "deleted")
    [foreign] = stage.world.add_codes(stage.other_voucher.id, ["foreign"])
    stage.world.delete_code(deleted.id)
    wrong = {"unknown": uuid4(), "already deleted": deleted.id, "out of scope": foreign.id}[which]
    return await stage.call("voucherCodes/delete", VoucherCodeIds=[str(good.id), str(wrong)])


@pytest.mark.parametrize("which", ["unknown", "already deleted", "out of scope"])
async def test_a_strict_delete_refuses_all_for_one_bad_id(stage: Stage, which: str) -> None:
    assert message(await deletion_of(stage, which)) == (400, "Invalid VoucherCodeIds")
    assert {code.value for code in stage.world.codes.truth.values() if code.is_active} == {"good", "foreign"}
    assert stage.simulator.violations == []


@pytest.mark.parametrize("which", ["unknown", "already deleted", "out of scope"])
async def test_a_lenient_delete_passes_over_bad_ids(stage: Stage, which: str) -> None:
    stage.simulator.behaviour.lenient_delete = True
    assert (await deletion_of(stage, which)).status_code == 200
    assert {code.value for code in stage.world.codes.truth.values() if code.is_active} == {"foreign"}


async def test_an_id_given_twice_is_deleted_once(stage: Stage) -> None:
    [code] = stage.add("A")
    assert (await stage.erase(code, code)).status_code == 200
    [shown] = (await stage.read()).json()["VoucherCodes"]
    assert (shown["Id"], shown["IsActive"]) == (str(code.id), False)


async def test_a_portfolio_write_needs_an_enterprise(stage: Stage) -> None:
    [code] = stage.add("A")
    for answer in (await stage.write("B", token=PORTFOLIO), await stage.erase(code, token=PORTFOLIO)):
        assert message(answer) == (400, "Invalid EnterpriseId")
    assert len(stage.simulator.violations) == 2
    assert list(stage.world.codes.truth.values()) == [code]


@pytest.mark.parametrize("which", ["unknown", "out of scope"])
async def test_a_portfolio_write_for_an_unseen_enterprise_is_invalid(stage: Stage, which: str) -> None:
    enterprise = uuid4() if which == "unknown" else stage.world.add_enterprise("Hotel C").id
    answer = await stage.write("B", token=PORTFOLIO, EnterpriseId=str(enterprise))
    assert message(answer) == (400, "Invalid EnterpriseId")
    assert stage.simulator.violations == []


async def test_a_portfolio_write_reaches_only_the_enterprise_it_names(stage: Stage) -> None:
    [code] = stage.add("A")
    ours, theirs = ({"token": PORTFOLIO, "EnterpriseId": str(hotel.id)} for hotel in (stage.hotel, stage.other_hotel))
    assert message(await stage.write("B", **theirs)) == (400, "Invalid VoucherId")
    assert message(await stage.erase(code, **theirs)) == (400, "Invalid VoucherCodeIds")
    assert (await stage.write("B", **ours)).status_code == 200
    assert (await stage.erase(code, **ours)).status_code == 200


async def test_a_plain_token_may_name_any_enterprise(stage: Stage) -> None:
    [code] = stage.add("A")
    for enterprise in (uuid4(), stage.other_hotel.id):
        assert (await stage.write(f"B{enterprise}", EnterpriseId=str(enterprise))).status_code == 200
    assert (await stage.erase(code, EnterpriseId=str(uuid4()))).status_code == 200


async def test_writes_may_become_readable_late(stage: Stage) -> None:
    [old] = stage.add("old", minutes_ago=5)
    stage.simulator.behaviour.hide_writes_for_s = 10
    [new] = (await stage.write("new")).json()["VoucherCodes"]
    assert (await stage.erase(old)).status_code == 200
    stage.time.advance(9.9)
    [code] = (await stage.read()).json()["VoucherCodes"]
    assert (code["Value"], code["IsActive"]) == ("old", True)
    assert await stage.values(VoucherCodeIds=[new["Id"]]) == []
    assert (await stage.write("new")).status_code == 403
    stage.time.advance(0.1)
    codes = (await stage.read()).json()["VoucherCodes"]
    assert {(code["Value"], code["IsActive"], code["UpdatedUtc"]) for code in codes} == {
        ("new", True, "2026-03-01T12:00:00Z"),
        ("old", False, "2026-03-01T12:00:00Z"),
    }


async def test_a_newer_change_is_not_undone_by_a_hidden_older_one(stage: Stage) -> None:
    stage.simulator.behaviour.hide_writes_for_s = 10
    await stage.write("A", "B")
    [first, second] = stage.world.codes.truth.values()
    stage.time.advance(5)
    stage.world.edit_code(first.id, value="A2")
    stage.world.hard_delete_code(second.id)
    assert await stage.values() == ["A2"]
    stage.time.advance(60)
    assert await stage.values() == ["A2"]


async def test_a_hidden_change_is_not_undone_by_an_older_one_that_is_hidden_for_longer(stage: Stage) -> None:
    stage.simulator.behaviour.hide_writes_for_s = 10
    await stage.write("A")
    stage.simulator.behaviour.hide_writes_for_s = 1
    await stage.erase(*stage.world.codes.truth.values())
    for seconds in (1, 10):
        stage.time.advance(seconds)
        [code] = (await stage.read()).json()["VoucherCodes"]
        assert not code["IsActive"]
