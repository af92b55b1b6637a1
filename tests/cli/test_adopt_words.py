"""What `voucher-sync adopt` says of what it did."""

from dataclasses import replace

from sync.cli.adopt import KEPT, sentence
from sync.outbox.gap import Left
from sync.service.adoption import Adoption


def test_where_nothing_is_left_held_it_is_not_said_to_send_it() -> None:
    later = Adoption(None, adopted=True, done=3)
    assert sentence(later) == "There is nothing to adopt. 3 held changes stood in Mews; nothing is left held."
    later = replace(later, left=Left(1, 0))
    assert sentence(later).endswith(f"; 1 add and 0 deletes stay held: {KEPT}.")
