"""Where the API's documentation leaves a choice, or an installation differs: the choices, with the usual one first."""

from dataclasses import dataclass, field

from sync.demo.simulator.wire import Activity


@dataclass(slots=True)
class Behaviour:
    """How this API behaves. May be changed while it runs.

    `allow_duplicates`: a voucher may have several active codes of one value (else 403).
    `lenient_delete`: unknown and already deleted ids are passed over (else 400).
    `shuffle_added`: the answer to an add lists the new codes in any order.
    `short_page_ends`: asking on after a page of fewer than `Count` items is a violation, not only after an empty one.
    `stamp_added`: False leaves the `UpdatedUtc` of added codes null, which the documentation allows.
    `hide_writes_for_s`: what is written through the API becomes readable so much later, by the world's clock.
    `date_ahead_s`: by how much the clock behind the `Date` header is ahead of the one that stamps records.
    `values_any_case`: `VoucherCodeValues` takes upper and lower case for the same.
    `values_usable_only`: `VoucherCodeValues` finds only codes that are active and may be used now.
    `refused_values`: an add that holds one of these values is refused by a business rule (403).
    """

    allow_duplicates: bool = False
    lenient_delete: bool = False
    shuffle_added: bool = False
    stamp_added: bool = True
    activity: Activity = "both"
    short_page_ends: bool = True
    hide_writes_for_s: float = 0.0
    date_ahead_s: float = 0.0
    values_any_case: bool = False
    values_usable_only: bool = False
    refused_values: set[str] = field(default_factory=set)
    max_body_bytes: int = 4 * 1024 * 1024
