"""What the environment says about the way to the API: its proxy, and the certificates that are trusted.

httpx would read the same variables, and ends in a traceback where one of them is not as it likes (a network in
`NO_PROXY`, a SOCKS proxy); OpenSSL passes over files that are not there, and then trusts nobody. Raises
`SettingsError`, without the value: a proxy's address may hold a password.
"""

import os
import ssl
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

import httpx

from sync.core.errors import SettingsError

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
"""The first that is set counts, as for curl. Calls go over https only, or to this very machine."""


def is_host(name: str) -> bool:
    """Whether a URL can have this host: httpx finds some of what is wrong with one only at the first call."""
    try:
        host = httpx.URL(scheme="https", host=name).host
        host.encode("idna")  # as it is resolved: no label is empty, or too long
    except (httpx.InvalidURL, ValueError):
        return False
    return ":" in host or all(one.isalnum() or one in "-._" for one in host)


def proxy_for(address: str, environ: Mapping[str, str] = os.environ) -> httpx.Proxy | None:
    """The proxy on the way to the API's base address, if there is one.

    None on the way to this very machine: it would be sent the tokens of a plain-http call.
    """
    url = httpx.URL(address)
    name = next((name for name in PROXIES if environ.get(name)), None)
    if name is None or url.host in LOOPBACK or _is_excepted(url, environ):
        return None
    given = environ[name].strip()
    words = f"{name}: cannot be read as a proxy's address, such as http://proxy:3128"
    if given.count("@") > 1 or "/" in given.partition("://")[2].partition("@")[0].rstrip("/"):
        raise SettingsError(f"{words}; in a user or password write @ as %40, and / as %2F")
    given = given if "://" in given else f"http://{given}"
    try:
        urlsplit(given).port  # noqa: B018 - httpx takes any number, and brackets that are not closed
        proxy = httpx.URL(given)
    except (ValueError, httpx.InvalidURL):
        raise SettingsError(words) from None
    if proxy.scheme.startswith("socks"):
        raise SettingsError(
            f"{name}: a SOCKS proxy cannot be used: set HTTPS_PROXY to an http proxy, or NO_PROXY to {url.host}"
        )
    if proxy.scheme not in {"http", "https"} or not proxy.host:
        raise SettingsError(words)
    return httpx.Proxy(proxy)


def _is_excepted(url: httpx.URL, environ: Mapping[str, str]) -> bool:
    """Whether `NO_PROXY` names the host: by its name, a domain above it, its address, or a network around that."""
    listed = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    return any(_names(one.strip(), url) for one in listed.split(","))


def _names(entry: str, url: httpx.URL) -> bool:
    if entry == "*":
        return True
    host = url.host.lower().rstrip(".")
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass  # one of them is a name
    domain, _, port = entry.lower().rpartition(":") if entry.count(":") == 1 else (entry.lower(), "", "")
    domain = domain.removeprefix("*").strip(".")
    is_of_port = not port or port == str(url.port or 443)
    return bool(domain) and is_of_port and (host == domain or host.endswith(f".{domain}"))


def tls_context(address: str, environ: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """How the API's certificate is checked: by the system's authorities, or those that the environment names."""
    if httpx.URL(address).scheme == "http":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # is not used, and trusts nobody
    file, directory = environ.get("SSL_CERT_FILE"), environ.get("SSL_CERT_DIR")
    for name, value in (("SSL_CERT_FILE", file), ("SSL_CERT_DIR", directory)):
        if value == "":
            raise SettingsError(f"{name}: is set but empty, so that no certificate would be trusted: unset it")
    if directory and not any(os.path.isdir(one) for one in directory.split(os.pathsep)):  # noqa: PTH112 - as OpenSSL
        raise SettingsError(
            f"SSL_CERT_DIR: {directory} is no directory: name the one with the certificates, or unset it"
        )
    try:
        if file:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except OSError as error:
        cause = "it holds no certificates" if isinstance(error, ssl.SSLError) else error.strerror
        raise SettingsError(f"SSL_CERT_FILE: {file} cannot be used: {cause}; name another file, or unset it") from None
    try:
        return ssl.create_default_context()
    except OSError as error:
        # Where TLS sessions are to be noted for whoever debugs them: the only file that this writes.
        raise SettingsError(
            f"SSLKEYLOGFILE: the file that it names cannot be written: {error.strerror}; unset it"
        ) from None
