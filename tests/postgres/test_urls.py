"""DATABASE_URL: what is wrong with it is said, and never a part of it that may be the password's."""

import pytest

from sync.core.errors import SettingsError
from sync.postgres.urls import also_read, describe_address, full_address, read_url

SECRET = "hush"


def complaint(url: str) -> str:
    """What is said about a URL that cannot be used; by nobody with a part of the password, in whatever is chained."""
    with pytest.raises(SettingsError) as raised:
        read_url(url)
    assert (raised.value.__cause__, raised.value.__suppress_context__ or not raised.value.__context__) == (None, True)
    assert SECRET not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("DATABASE_URL")
    return str(raised.value)


@pytest.mark.parametrize(
    "password",
    ["p@hush", "hush@hush/word", "p/hush", "hush/", "/hush", "p@hush:1", "@hush", "hush@", "p@hush?x=1", "hush/p@ss"],
)
@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_password_that_is_not_encoded_is_no_host(scheme: str, password: str) -> None:
    assert "write @ as %40, / as %2F" in complaint(
        f"{scheme}://user:{password}@db.example:5432/vouchers?sslmode=require"
    )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://user:hush\udcff@db.example/vouchers", "no text in UTF-8"),
        ("postgresql://user:hush%ff@db.example/vouchers", "no text in UTF-8"),
        ("postgresql://db.example/vouchers?application_name=hush%ff", "no text in UTF-8"),
        ('"postgresql://user:hush@db.example/vouchers"', "stands in quotes: take them away"),
        ("'host=db.example password=hush'", "stands in quotes: take them away"),
        ("postgresql://db.example/vouchers?connect_timeout=99999999999999999999", "a number of seconds"),
        ("postgresql://db.example/vouchers?connect_timeout=\u0663", "a number of seconds"),
        ("postgresql://user:50%hush@db.example/vouchers", "% as %25"),
        ("postgresql://user:hush%4@db.example/vouchers", "% as %25"),
        ("hush@db.example", "give it as postgresql://"),
        ("mysql://user:hush@db.example/vouchers", "give it as postgresql://"),
        ("host=db.example password=hush hush", "give it as postgresql://"),
        ("host=db.example password='hush", "give it as postgresql://"),
        ("postgresql://user:hush@db.example:hush/vouchers", "the port must be a number"),
        ("postgresql://user:hush@db.example:99999/vouchers", "the port must be a number"),
        ("postgresql://user:hush@db.example/vouchers?connect_timeout=soon", "connect_timeout must be a number"),
        ("postgresql://user:hush@db..example/vouchers", "is no name that there can be"),
        (f"postgresql://user:hush@{'x' * 64}/vouchers", "is no name that there can be"),
        ("postgresql://user:hush@db.example/vouchers\n?x", "a line end or another control character"),
    ],
)
def test_what_nobody_can_use_is_said_without_the_password(url: str, words: str) -> None:
    assert words in complaint(url)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sslmod=require", "libpq knows no parameter `sslmod`: is `sslmode` meant?"),
        ("sslmode=require&conect_timeout=3", "libpq knows no parameter `conect_timeout`: is `connect_timeout` meant?"),
        ("ssl=require", "`sslmode=require` or another mode is meant"),
        ("xyzzy=1", "libpq knows no parameter `xyzzy`"),
        ("pool_size=hush", "libpq knows no parameter `pool_size`"),
    ],
)
def test_a_parameter_that_libpq_does_not_know_is_named(query: str, words: str) -> None:
    assert words in complaint(f"postgresql://user:{SECRET}@db.example/vouchers?{query}")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sslmode=hush", "cannot be used: invalid sslmode value"),
        ("sslmode=require%26password%3Dhush", "cannot be used: invalid sslmode value"),
        ("sslmode=require&sslrootcert=system", 'weak sslmode "require" may not be used with sslrootcert=system'),
        ("target_session_attrs=hush", "cannot be used: invalid target_session_attrs value"),
        ("channel_binding=hush", "cannot be used: invalid channel_binding value"),
        ("ssl_min_protocol_version=hush", 'cannot be used: invalid "ssl_min_protocol_version" value'),
        ("port=1,2", "could not match 2 port numbers to 1 hosts"),
    ],
)
def test_what_libpq_refuses_whatever_the_server_is_no_server_that_does_not_answer(query: str, words: str) -> None:
    assert words in complaint(f"postgresql://user:{SECRET}@db.example/vouchers?{query}")


@pytest.mark.parametrize(
    "url",
    [
        "hostaddr=192.0.2.1,192.0.2.2 port=5432,5433 dbname=vouchers",
        "host=one,two hostaddr=192.0.2.1,192.0.2.2 port=5432,5433 dbname=vouchers",
        "postgresql://db.example/vouchers?gssencmode=require",
        "postgresql:///vouchers?service=vouchers",
    ],
)
def test_what_needs_a_server_to_be_wrong_is_not_refused(url: str) -> None:
    read_url(url)


def test_nor_is_what_stands_beside_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGHOST": "one,two", "PGPORT": "5432,5433", "PGGSSENCMODE": "require"}.items():
        monkeypatch.setenv(name, value)
    read_url("postgresql:///vouchers")


def test_what_stands_beside_the_url_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify_full")
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")  # nothing is asked there
    assert "invalid sslmode value (what is set here and counts too: " in complaint("postgresql://db.example/vouchers")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:p%40%2Fss%25@db.example:5432/vouchers?sslmode=require",
        "postgresql://user:p?#[s:s@db.example/vouchers",
        "postgresql://user@/vouchers?host=/var/run/postgresql",
        "postgresql:///vouchers?host=/var/run/postgresql&port=5433",
        "postgresql://user:p@one.example:5432,two.example:5433/vouchers?target_session_attrs=primary",
        "postgresql://user:p@[::1]:5432/vouchers?connect_timeout=-1",
        " postgresql+psycopg://db.example/vouchers\n",
        "host=db.example password='p@ s/s' dbname=vouchers",
        "",
    ],
)
def test_whatever_libpq_understands_is_taken(url: str) -> None:
    read_url(url)
    assert "password" not in describe_address(url)


@pytest.mark.parametrize("password", ["a+b", "a+b://c"])
def test_a_plus_in_pairs_of_names_and_values_cuts_nothing_off(password: str) -> None:
    pairs = f"host=db.example password={password} dbname=my+vouchers"
    assert read_url(pairs) == {"host": "db.example", "password": password, "dbname": "my+vouchers"}


def test_what_counts_beside_the_url_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGSSLMODE", "PGSERVICE", "PGSERVICEFILE"):
        monkeypatch.delenv(name, raising=False)
    before = also_read()
    monkeypatch.setenv("PGSSLMODE", "hush")
    monkeypatch.setenv("PGSERVICEFILE", "/hush")
    assert "PGSERVICEFILE, PGSSLMODE" in also_read()
    assert "PGSSLMODE" not in before
    assert "hush" not in also_read()
    for name in ("PGTZ", "PGDATESTYLE", "PGGEQO"):  # libpq has no parameters of these names
        monkeypatch.setenv(name, "hush")
        assert name in also_read()


def test_no_two_databases_are_called_alike_and_none_by_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [f"postgresql://user:{SECRET}@{host}/{name}" for host in ("one", "two") for name in ("a", "b")]
    called = {full_address(url) for url in urls}
    for name in ("c", "d"):
        monkeypatch.setenv("PGDATABASE", name)
        called.add(full_address(f"postgresql://user:{SECRET}@one"))
    assert len(called) == 6
    assert not any(SECRET in one for one in called)
