"""Which platform addresses are one and the same, however they are written. Pure."""

from urllib.parse import urlsplit

DEFAULT_PORTS = {"https": 443, "http": 80}


def same_address(address: str) -> str:
    """One way to write it: a token's budget and the cap of an address are counted by that.

    `HTTPS://API.Mews.com:443/` leads to where `https://api.mews.com` does.
    """
    try:
        parts = urlsplit(address)
        port = "" if parts.port in {None, DEFAULT_PORTS.get(parts.scheme)} else f":{parts.port}"
    except ValueError:
        return address  # as somebody may have put it into the database; a call to it tells what is wrong
    host = (parts.hostname or "").rstrip(".")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"
