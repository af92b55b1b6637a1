"""The hotels' own people, who want the same as the client."""

from sync.demo.simulator import OtherUsers
from tests.simulator.helpers import Stage


def test_they_add_edit_and_delete_codes_of_a_value_that_a_client_has_in_mind(stage: Stage) -> None:
    others, voucher = OtherUsers(stage.world, seed=1), stage.voucher.id
    told = [others.touch(voucher, "A") for _ in range(50)]
    assert {line.split()[-1] for line in told} == {"added", "edited", "deleted"}
    codes = stage.world.codes.truth.values()
    assert {(code.voucher_id, code.value) for code in codes} == {(voucher, "A")}
    assert sum(code.is_active for code in codes) <= 1 < len(codes)
