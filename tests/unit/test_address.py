"""Which database an address means, who named it, and that a password is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extensions import make_dsn, parse_dsn

from fkdoctor.config import Config, DatabaseConfig
from fkdoctor.database import Target, resolve_target
from fkdoctor.errors import ConfigError

NO_FILE = Config()
FILE = Config(
    path=Path("/srv/fkdoctor.toml"),
    database=DatabaseConfig(url="postgresql:///from_file", url_env="MLOPS_URL"),
)


def _resolve(url: str) -> Target:
    return resolve_target(url, NO_FILE, {})


def _refusal(url: str) -> str:
    """The message for an address that is refused, which never repeats a password."""
    with pytest.raises(ConfigError) as refused:
        _resolve(url)
    message = str(refused.value)
    assert "--url" in message.splitlines()[0]
    assert len(message.splitlines()) == 3
    assert "hunter2" not in message
    # Not in the traceback either, which a pipeline may log.
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    return message


@pytest.mark.parametrize(
    ("url", "environ", "config", "shown"),
    [
        (
            "postgresql:///flag",
            {"FKDOCTOR_URL": "postgresql:///ours", "DATABASE_URL": "postgresql:///theirs"},
            FILE,
            "database flag (from --url)",
        ),
        (
            None,
            {"FKDOCTOR_URL": "postgresql:///ours", "DATABASE_URL": "postgresql:///theirs"},
            FILE,
            "database ours (from FKDOCTOR_URL)",
        ),
        (
            None,
            {"DATABASE_URL": "postgresql:///theirs", "MLOPS_URL": "postgresql:///named"},
            FILE,
            "database theirs (from DATABASE_URL)",
        ),
        (
            None,
            {"MLOPS_URL": "postgresql:///named"},
            FILE,
            "database from_file (from /srv/fkdoctor.toml)",
        ),
        (
            None,
            {"MLOPS_URL": "postgresql:///named"},
            Config(path=FILE.path, database=DatabaseConfig(url_env="MLOPS_URL")),
            "database named (from MLOPS_URL named in /srv/fkdoctor.toml)",
        ),
        # An empty variable is one that is not set.
        (
            None,
            {"FKDOCTOR_URL": "", "DATABASE_URL": " \n"},
            FILE,
            "database from_file (from /srv/fkdoctor.toml)",
        ),
    ],
)
def test_the_first_source_that_names_a_database_wins_and_is_told(
    url: str | None, environ: dict[str, str], config: Config, shown: str
) -> None:
    assert str(resolve_target(url, config, environ)) == shown


def test_without_any_address_all_sources_are_listed() -> None:
    with pytest.raises(ConfigError) as refused:
        resolve_target(None, NO_FILE, {})
    assert str(refused.value).splitlines() == [
        "No database is given.",
        "Looked at --url, FKDOCTOR_URL, DATABASE_URL and fkdoctor.toml.",
        "For example: --url postgresql://user@localhost/mlops, or try: fkdoctor demo",
    ]


def test_a_named_variable_that_is_not_set_is_told() -> None:
    config = Config(path=FILE.path, database=DatabaseConfig(url_env="MLOPS_URL"))
    with pytest.raises(ConfigError, match="MLOPS_URL, which is not set"):
        resolve_target(None, config, {})


@pytest.mark.parametrize("url", ["", "  "])
def test_an_empty_flag_does_not_fall_back_to_another_database(url: str) -> None:
    with pytest.raises(ConfigError, match="--url is empty"):
        resolve_target(url, FILE, {"DATABASE_URL": "postgresql:///production"})


@pytest.mark.parametrize(
    ("url", "parts", "shown"),
    [
        (
            "postgresql://me:hunter2@db.example:5433/mlops",
            {"user": "me", "host": "db.example", "port": "5433", "dbname": "mlops"},
            "database mlops on db.example:5433 as me",
        ),
        (
            "postgres://me:hunter2@db/mlops?sslmode=require",
            {"user": "me", "host": "db", "dbname": "mlops", "sslmode": "require"},
            "database mlops on db as me",
        ),
        ("POSTGRESQL://db/mlops", {"host": "db", "dbname": "mlops"}, "database mlops on db"),
        (
            "postgresql+psycopg2://me:hunter2@db/mlops",
            {"user": "me", "host": "db", "dbname": "mlops"},
            "database mlops on db as me",
        ),
        (
            "postgresql+asyncpg://me:hunter2@db/mlops",
            {"user": "me", "host": "db", "dbname": "mlops"},
            "database mlops on db as me",
        ),
        ("  postgresql://db/mlops\n", {"host": "db", "dbname": "mlops"}, "database mlops on db"),
        ("postgresql://", {}, "the default database"),
        (
            "postgresql:///mlops?host=/run/postgresql&password=hunter2",
            {"host": "/run/postgresql", "dbname": "mlops"},
            "database mlops on /run/postgresql",
        ),
        (
            "postgresql://%2Frun%2Fpostgresql:5433/mlops",
            {"host": "/run/postgresql", "port": "5433", "dbname": "mlops"},
            "database mlops on /run/postgresql:5433",
        ),
        (
            "postgresql://[::1]:5433/mlops",
            {"host": "::1", "port": "5433", "dbname": "mlops"},
            "database mlops on [::1]:5433",
        ),
        (
            "postgresql://a:1,[2001:db8::2]:2,c:3/mlops",
            {"host": "a,2001:db8::2,c", "port": "1,2,3", "dbname": "mlops"},
            "database mlops on a:1,[2001:db8::2]:2,c:3",
        ),
        (
            "host=a,b port=5433 user=me password=hunter2",
            {"host": "a,b", "port": "5433", "user": "me"},
            "the default database on a:5433,b:5433 as me",
        ),
        (
            "postgresql://m%40e:%40hunter2%2F@db/m%20l%25ops%40x",
            {"user": "m@e", "host": "db", "dbname": "m l%ops@x"},
            "database m l%ops@x on db as m@e",
        ),
        (
            r"host = '/run/my socket' dbname='it\'s' user=me password='hunter2 \\ 3'",
            {"host": "/run/my socket", "dbname": "it's", "user": "me"},
            "database it's on /run/my socket as me",
        ),
        ("service=mlops", {"service": "mlops"}, "service mlops"),
        (
            "service=mlops dbname=other user=me",
            {"service": "mlops", "dbname": "other", "user": "me"},
            "service mlops database other as me",
        ),
        (
            "hostaddr=127.0.0.1 dbname=mlops",
            {"hostaddr": "127.0.0.1", "dbname": "mlops"},
            "database mlops on 127.0.0.1",
        ),
        # The value of a keyword is no URL, even where it looks like one.
        ("password=a://hunter2 host=db", {"host": "db"}, "the default database on db"),
        ("host=@abstract dbname=mlops", {"host": "@abstract", "dbname": "mlops"}, None),
    ],
)
def test_each_form_of_address_is_understood_as_libpq_understands_it(
    url: str, parts: dict[str, str], shown: str | None
) -> None:
    target = _resolve(url)
    understood = parse_dsn(target.dsn)
    understood.pop("password", None)
    assert understood == parts
    assert shown is None or str(target) == f"{shown} (from --url)"
    assert "hunter2" not in f"{target} {target!r} {[target]}"


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("mysql://me:hunter2@db/mlops", "mysql"),
        ("mysql+pymysql://me:hunter2@db/mlops", "mysql+pymysql"),
        ("sqlite:///mlops.db", "sqlite"),
        ("https://me:hunter2@db/mlops", "https"),
        ("cockroachdb://db/mlops", "cockroachdb"),
        ("jdbc:postgresql://db/mlops?password=hunter2", None),
        ("postgresqlx://me:hunter2@db/mlops", "postgresqlx"),
    ],
)
def test_another_kind_of_address_is_refused_by_its_scheme(url: str, scheme: str | None) -> None:
    message = _refusal(url)
    if scheme:
        assert f"It begins with {scheme}://." in message


@pytest.mark.parametrize(
    "url",
    [
        "mlops",
        "hunter2",
        "password=hunter2 and more",
        "password='hunter2",
        "dbname=mlops hunter2=x",
        "postgresql://me:hunter2@db/mlops?sslmod=require&password=hunter2",
        "postgresql+asyncpg://me:hunter2@db/mlops?ssl=require",
        "postgresql://me:hunter2%zz@db/mlops",
        "postgresql://me:hunter2%00@db/mlops",
        "postgresql://[::1/mlops?password=hunter2",
        # Passwords that should have been percent-encoded: libpq would read (and show) their
        # second half as a host, a port or a database.
        "postgresql://me:x@hunter2@db/mlops",
        "postgresql://me:x/hunter2@db/mlops",
        "postgresql://me:hunter2/x@db/mlops",
        "postgresql://me@server:hunter2@db/mlops",
        "postgresql://me:hunter2/mlops",
        "postgresql://db/mlops@hunter2",
        "postgresql://db:hunter2/mlops",
        "host=db port=hunter2",
        "dbname=postgresql://me:hunter2@db/mlops",
        "host=db\0password=hunter2",
        "host=\udcff password=hunter2",
    ],
)
def test_an_address_that_cannot_be_read_is_refused_without_repeating_it(url: str) -> None:
    message = _refusal(url)
    assert message.splitlines()[0] == "The address from --url cannot be read."
    assert "sslmode" in message
    assert "%40" in message


text = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1)


@given(st.dictionaries(st.sampled_from(["host", "dbname", "user", "options"]), text), text)
def test_any_keyword_string_keeps_its_values_and_hides_its_password(
    parts: dict[str, str], secret: str
) -> None:
    password = f"«{secret}»"
    given = parts | {"password": password}
    try:
        target = _resolve(make_dsn(**given))
    except ConfigError:
        assert "://" in parts["dbname"]
        return
    assert parse_dsn(target.dsn) == given
    assert password not in f"{target} {target!r}"


@given(st.text())
def test_any_text_is_an_address_or_is_refused(written: str) -> None:
    try:
        understood = parse_dsn(_resolve(written).dsn)
    except ConfigError as refused:
        understood = None
        message = refused.what
    if understood is None:
        assert "--url" in message
    else:
        assert understood == parse_dsn(written.strip())
