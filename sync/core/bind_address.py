"""Where a server listens: host and port, as a setting gives them."""

from dataclasses import dataclass
from ipaddress import ip_address

LOCALHOST = "localhost"


@dataclass(frozen=True, slots=True)
class BindAddress:
    """A host, an IPv6 address without its brackets, and a port, of which 0 is any that is free."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine can reach it."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_bind_address(value: str) -> BindAddress | None:
    """`host:port`, an IPv6 address in brackets; None for an empty text. `ValueError` that says what is wrong."""
    if not value:
        return None
    host, separator, port = value.rpartition(":")
    is_port = port.isascii() and port.isdecimal() and len(port) < 6 and int(port) < 65536
    if not (separator and host and is_port):
        raise ValueError("give it as host:port, or empty for none")
    is_bracketed = host[0] == "[" and host[-1] == "]"
    if "/" in host:
        raise ValueError("give it as host:port, without http:// or a path")
    if ":" in host and not is_bracketed:
        raise ValueError("give an IPv6 address in brackets, such as [::1]:8321")
    host = host[1:-1] if is_bracketed else host
    if not host or not host.isascii() or not host.isprintable() or any(one in host for one in " /@[]"):
        raise ValueError("give it as host:port; its host is no name that there can be")
    return BindAddress(host, int(port))


def is_loopback(host: str) -> bool:
    """Whether a host's name or address, an IPv6 one without its brackets, always means the machine itself."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == LOCALHOST
