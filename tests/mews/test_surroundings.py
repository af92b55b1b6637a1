"""The way to the API as the environment names it: taken, passed over, or told in one line; never with a password."""

import asyncio
import base64
import re
import ssl
from pathlib import Path

import httpx
import pytest

from sync.core.errors import SettingsError
from sync.mews.surroundings import PROXIES, proxy_for, tls_context
from sync.mews.transport import Transport

API = "https://api.mews.example"
PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTP_PROXY": PROXY}, None),
        ({"HTTP_PROXY": "::::"}, None),
        ({"HTTPS_PROXY": PROXY}, PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other.example"}, PROXY),
        ({"ALL_PROXY": PROXY}, PROXY),
        ({"ALL_PROXY": "socks5://127.0.0.1:1080", "HTTPS_PROXY": PROXY}, PROXY),
        ({"HTTPS_PROXY": "proxy.example:3128"}, PROXY),
        ({"HTTPS_PROXY": f" {PROXY}/\n"}, PROXY),
    ],
)
def test_the_proxy_is_the_one_that_curl_would_take(environ: dict[str, str], expected: str | None) -> None:
    proxy = proxy_for(API, environ)
    assert (str(proxy.url).rstrip("/") if proxy else None) == expected


@pytest.mark.parametrize("address", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:8080"])
def test_no_proxy_is_sent_the_tokens_of_a_call_to_this_machine(address: str) -> None:
    assert proxy_for(address, dict.fromkeys(PROXIES, PROXY)) is None


@pytest.mark.parametrize(
    ("address", "excepted", "is_excepted"),
    [
        (API, "*", True),
        (API, "api.mews.example", True),
        (API, "API.Mews.example.", True),
        (API, "localhost, mews.example", True),
        (API, ".mews.example", True),
        (API, "*.mews.example", True),
        (API, "mews.example:443", True),
        (API, "mews.example:8443", False),
        (API, "ews.example", False),
        (API, "fd00::/8", False),
        (API, "fd00::/8,::1,[::1]:80,10.0.0.0/8,x:y:z,, ,/,\x00", False),
        (API, "fd00::/8,.mews.example", True),
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://10.1.2.3", "10.1.2.3", True),
        ("https://10.1.2.3", "192.168.0.0/16", False),
        ("https://[fd00::17]", "fd00::/8", True),
        ("https://[fd00::17]", "[fd00::17]", True),
    ],
)
def test_no_proxy_names_hosts_domains_and_networks(address: str, excepted: str, is_excepted: bool) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        assert (proxy_for(address, {"HTTPS_PROXY": PROXY, name: excepted}) is None) is is_excepted


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("socks5://hush:hush@127.0.0.1:1080", "a SOCKS proxy cannot be used"),
        ("socks5h://127.0.0.1:1080", "NO_PROXY to api.mews.example"),
        ("http://hush:hush@127.0.0.1:port", "cannot be read as a proxy's address"),
        ("http://u:hush@hush/hush@proxy.example:3128", "write @ as %40"),
        ("http://u:hush/hush@proxy.example:3128", "/ as %2F"),
        ("http://hush:99999999", "cannot be read as a proxy's address"),
        ("::::", "cannot be read as a proxy's address"),
        ("http://", "cannot be read as a proxy's address"),
        ("ftp://hush", "cannot be read as a proxy's address"),
        ("http://[hush", "cannot be read as a proxy's address"),
        ("http://hush\x01", "cannot be read as a proxy's address"),
    ],
)
@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(name: str, given: str, words: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(words)) as raised:
        proxy_for(API, {name: given})
    assert str(raised.value).startswith(f"{name}: ")
    assert "hush" not in str(raised.value)


async def test_calls_go_through_the_proxy_with_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asyncio.get_running_loop().create_future()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set_result((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://user:hush%40@127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "fd00::/8")
        transport = Transport(API, max_connections=1, max_response_bytes=1000)
        with pytest.raises(httpx.ProxyError) as raised:
            await transport.post("/", b"{}", timeout_s=10)
        await transport.aclose()
        head = await asked
    assert head.startswith("CONNECT api.mews.example:443 ")
    assert base64.b64encode(b"user:hush@").decode() in head
    assert "hush" not in str(raised.value)


def test_the_systems_authorities_are_trusted() -> None:
    context = tls_context(API, {})
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("SSL_CERT_FILE", "", "is set but empty"),
        ("SSL_CERT_FILE", "missing", "No such file"),
        ("SSL_CERT_FILE", ".", "cannot be used"),
        ("SSL_CERT_FILE", "text", "it holds no certificates"),
        ("SSL_CERT_DIR", "", "is set but empty"),
        ("SSL_CERT_DIR", "missing", "is no directory"),
        ("SSL_CERT_DIR", "text", "is no directory"),
    ],
)
def test_certificates_that_cannot_be_used_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, given: str, words: str
) -> None:
    (tmp_path / "text").write_text("no certificate")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=words) as raised:
        tls_context(API, {name: given})
    assert str(raised.value).startswith(f"{name}: ")
    assert tls_context("http://127.0.0.1:8080", {name: given}).verify_mode is ssl.CERT_REQUIRED


def test_a_list_of_directories_will_do(tmp_path: Path) -> None:
    context = tls_context(API, {"SSL_CERT_DIR": f"/missing:{tmp_path}"})
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_a_file_for_the_keys_of_sessions_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "missing/keys"))
    with pytest.raises(SettingsError, match=r"SSLKEYLOGFILE: .* No such file"):
        tls_context(API, {})
