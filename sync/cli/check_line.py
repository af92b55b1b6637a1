"""What `voucher-sync check` prints of one thing."""

from dataclasses import dataclass

NO_START = "until then `voucher-sync run` does not start"


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One line: what was looked at, what was found, and, if that is wrong, what to do."""

    subject: str
    detail: str
    to_do: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether somebody must do something."""
        return bool(self.to_do)
