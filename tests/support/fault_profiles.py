"""What may go wrong with calls, by how it ends."""

from collections.abc import Mapping

from sync.demo.simulator import (
    BAD_DAY,
    Close,
    Endless,
    Fault,
    Hang,
    HiddenWrite,
    HtmlPage,
    MalformedJson,
    Operation,
    PartialAdd,
    PartialAnswer,
    RawBody,
    Slow,
    Status,
    TruncatedBody,
)

WRITES = (Operation.ADD_CODES, Operation.DELETE_CODES)
READS = (Operation.GET_ENTERPRISES, Operation.GET_SERVICES, Operation.GET_VOUCHERS, Operation.GET_CODES)
TOO_HEAVY = Status(408, "Transaction has timed out")
BAD_READS: Mapping[Fault, float] = {
    fault: 4 * BAD_DAY[fault] for fault in BAD_DAY if fault != TOO_HEAVY and not isinstance(fault, Slow)
}
"""Four times a bad day, to meet each fault. A 408 is none of them: it speaks of the request (see test_pace.py)."""

REFUSED: Mapping[Fault, float] = {Status(400, "Invalid VoucherId"): 0.02, Status(403, "A rule of the hotel"): 0.02}
UNPROCESSED: Mapping[Fault, float] = {Status(409): 0.02, Status(429): 0.02, Status(503): 0.02, Close(): 0.02}
LOST: Mapping[Fault, float] = {
    Status(408): 0.01,
    Status(408, processed=True): 0.02,
    Status(500, processed=True): 0.03,
    Close(processed=True): 0.03,
    TruncatedBody(): 0.02,
    MalformedJson(): 0.02,
    HtmlPage(processed=True): 0.02,
    Hang(processed=True): 0.005,
    PartialAdd(stored=3): 0.03,
}
"""May have had its effect, and mostly had."""
LATE: Mapping[Fault, float] = {HiddenWrite(0.1): 0.1, HiddenWrite(0.4): 0.1}
ODD: Mapping[Fault, float] = {
    RawBody(b"", status=204): 0.05,
    RawBody(b"", status=202): 0.05,
    RawBody(b'{"VoucherCodes": [], "Cursor": null}'): 0.05,
    PartialAnswer(listed=2): 0.1,
    Endless(): 0.05,
}
PROXY: Mapping[Fault, float] = {
    Status(403, html=True): 0.025,
    Status(403, html=True, named=False): 0.025,
    Status(400, "Blocked", html=True): 0.025,
    Status(400, "Blocked", html=True, named=False): 0.025,
}
