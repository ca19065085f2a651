"""Does Django do with the rows what the audit says of its models? Asked of a real project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fkdoctor.inspect.django_models import read_search_path

django = pytest.importorskip("django")

ROOT = Path(__file__).parents[3]
SETTINGS = """
import os, psycopg2.extensions
given = psycopg2.extensions.parse_dsn(os.environ["DATABASE_URL"])
SECRET_KEY = "for the tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "shop",
]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": given["dbname"], "USER": given.get("user"),
    "PASSWORD": given.get("password"), "HOST": given.get("host"), "PORT": given.get("port"),
    "OPTIONS": {"options": "-c search_path=store,public"} if os.environ.get("IN_STORE") else {},
}}
"""
Run = Callable[..., subprocess.CompletedProcess[str]]
Execute = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A Django project with an empty app."""
    (tmp_path / "site_settings.py").write_text(SETTINGS)
    (tmp_path / "shop" / "migrations").mkdir(parents=True)
    for name in ("__init__.py", "migrations/__init__.py", "models.py"):
        (tmp_path / "shop" / name).write_text("")
    return tmp_path


@pytest.fixture
def run(project: Path, database_url: str) -> Run:
    """Runs Python in the project, on the test's database."""

    def run(*arguments: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        environ = {name: value for name, value in os.environ.items() if name != "FKDOCTOR_URL"}
        environ |= {"DATABASE_URL": database_url, "DJANGO_SETTINGS_MODULE": "site_settings", **more}
        environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), environ.get("PYTHONPATH", "")])
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def audit(run: Run) -> Callable[..., list[dict[str, Any]]]:
    """Called with rules and options: what the audit of the project says by these rules."""

    def audit(rules: str, *options: str, **more: str) -> list[dict[str, Any]]:
        command = ("-m", "fkdoctor", "audit", "--fail-on", "never", "--format", "json")
        told = run(*command, "--django", "site_settings", *options, **more)
        report = json.loads(told.stdout)
        assert report["unread"] == []
        return [one for one in report["findings"] if one["rule"] in rules]

    return audit


@pytest.fixture
def supported(execute: Execute) -> None:
    """Only where Django itself takes the server, which fkdoctor need not."""
    from django.db.backends.postgresql.features import DatabaseFeatures

    oldest = DatabaseFeatures.minimum_database_version
    ((number,),) = execute("select current_setting('server_version_num')::int / 10000")
    if oldest and (number,) < oldest:
        pytest.skip(f"this Django needs PostgreSQL {oldest[0]}")


ON_DELETE = ("CASCADE", "PROTECT", "RESTRICT", "SET_NULL", "SET_DEFAULT", "SET(2)", "DO_NOTHING")
LEFT_TO_THE_DATABASE = ("DB_CASCADE", "DB_SET_NULL", "DB_SET_DEFAULT")
PAIR = """
class Up{n}(models.Model):
    pass

class Down{n}(models.Model):
    up = models.ForeignKey(
        Up{n}, models.{on_delete}, null=True, related_name="+", {default}
    )
"""
# Deletes a referenced row through Django, then in SQL, and tells where each left the other row.
DRIVER = """
import json
import django
django.setup()
from django.apps import apps
from django.db import DatabaseError, connection, transaction
from django.db.models import ProtectedError, RestrictedError

def attempt(down, delete):
    try:
        with transaction.atomic():
            delete()
            connection.cursor().execute("set constraints all immediate")
            left = list(down.objects.values_list("up_id", flat=True))
            transaction.set_rollback(True)
            return left
    except (DatabaseError, ProtectedError, RestrictedError):
        return "refused"

cases, told = json.load(open("cases.json")), {}
with connection.schema_editor() as editor:
    for n in range(len(cases)):
        editor.create_model(apps.get_model("shop", f"Up{n}"))
        editor.create_model(apps.get_model("shop", f"Down{n}"))
for n, (_, rule, more) in enumerate(cases):
    up, down = (apps.get_model("shop", f"{name}{n}") for name in ("Up", "Down"))
    up.objects.bulk_create([up(pk=1), up(pk=2)])
    down.objects.create(up_id=1)
    cursor = connection.cursor()
    cursor.execute(
        "select conname from pg_constraint where contype = 'f' and conrelid = %s::regclass",
        [f"shop_down{n}"],
    )
    cursor.execute(f'alter table shop_down{n} drop constraint "{cursor.fetchone()[0]}"')
    cursor.execute(
        f"alter table shop_down{n} add foreign key (up_id) references shop_up{n} on delete {rule}"
        " deferrable initially deferred"
    )
    for change in more:
        cursor.execute(f"alter table shop_down{n} alter up_id {change}")
    sql = f"delete from shop_up{n} where id = 1"
    told[f"shop.Down{n}.up"] = [
        attempt(down, up.objects.get(pk=1).delete),
        attempt(down, lambda: connection.cursor().execute(sql)),
    ]
print(json.dumps(told))
"""


def expected(on_delete: str, by_django: Any, in_sql: Any) -> str | None:
    """What the audit must say, by what came of deleting the row."""
    if on_delete in LEFT_TO_THE_DATABASE:
        promised = {"DB_CASCADE": [], "DB_SET_NULL": [None], "DB_SET_DEFAULT": [2]}[on_delete]
        return None if by_django == promised else "error"
    if on_delete not in ("PROTECT", "RESTRICT", "DO_NOTHING") and by_django == "refused":
        return "error"
    if by_django == in_sql:
        return None
    return "info" if in_sql == "refused" else "warning"


@pytest.mark.usefixtures("supported")
def test_django_and_sql_end_as_the_audit_says(
    project: Path, run: Run, audit: Callable[..., list[dict[str, Any]]]
) -> None:
    from django.db import models

    known = [name for name in LEFT_TO_THE_DATABASE if hasattr(models, name)]
    cases: list[tuple[str, str, tuple[str, ...]]] = []
    for on_delete in (*ON_DELETE, *known):
        rules = ("NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT")
        cases += [(on_delete, rule, ()) for rule in rules]
        if not on_delete.startswith("DB_"):
            cases += [
                (on_delete, "SET NULL", ("set not null",)),
                (on_delete, "CASCADE", ("set not null",)),
                (on_delete, "SET DEFAULT", ("set default 2",)),
                (on_delete, "SET DEFAULT", ("set not null",)),
            ]
    (project / "cases.json").write_text(json.dumps(cases))
    (project / "driver.py").write_text(DRIVER)
    (project / "shop" / "models.py").write_text(
        "from django.db import models\n"
        + "".join(
            PAIR.format(
                n=n,
                on_delete=on_delete,
                default="db_default=2" if on_delete == "DB_SET_DEFAULT" else "default=2",
            )
            for n, (on_delete, _, _) in enumerate(cases)
        )
    )
    outcomes = json.loads(run("driver.py").stdout)
    findings = audit(
        "FK054 FK057",
        "--table",
        "shop_down0",
        *(word for n in range(1, len(cases)) for word in ("--table", f"shop_down{n}")),
    )

    told = {
        one["subject"].partition(" ")[0]: one["severity"]
        for one in findings
        if one["rule"] == "FK057"
    }
    wanted = {
        label: severity
        for (label, outcome), (on_delete, _, _) in zip(outcomes.items(), cases, strict=True)
        if (severity := expected(on_delete, *outcome)) is not None
    }
    assert {label: (told.get(label), cases[n]) for n, label in enumerate(outcomes)} == {
        label: (wanted.get(label), cases[n]) for n, label in enumerate(outcomes)
    }
    assert {"error", "warning", "info"} <= set(told.values())
    not_null = [f"shop_down{n}" for n, (_, _, more) in enumerate(cases) if "set not null" in more]
    assert {
        one["foreign_keys"][0].split(".")[1] for one in findings if one["rule"] == "FK054"
    } == set(not_null)


LIBRARY = """
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models
import uuid


class Place(models.Model):
    code = models.CharField(max_length=9, unique=True)


class Library(Place):
    keeper = models.ForeignKey("auth.User", models.SET_NULL, null=True, db_column="Kept By")


class Book(models.Model):
    at = models.ForeignKey(Place, models.PROTECT, to_field="code")
    readers = models.ManyToManyField("auth.User")
    sequel = models.OneToOneField("self", models.CASCADE, null=True)

    class Meta:
        db_table = "Books of all"


class Loan(models.Model):
    book = models.ForeignKey(Book, models.CASCADE, db_constraint=False)


class Legacy(models.Model):
    book = models.ForeignKey(Book, models.DO_NOTHING)

    class Meta:
        managed = False
        db_table = "legacy"


class Article(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)


class BookProxy(Book):
    class Meta:
        proxy = True


class Tagged(models.Model):
    what = models.ForeignKey(ContentType, models.CASCADE)
    number = models.PositiveBigIntegerField()
    text = models.CharField(max_length=40, null=True)
    by_number = GenericForeignKey("what", "number")
    by_text = GenericForeignKey("what", "text", for_concrete_model=False)
"""


@pytest.fixture
def library(project: Path, run: Run, supported: None) -> Path:
    """The project with models of all sorts; the database as Django makes it."""
    (project / "shop" / "models.py").write_text(LIBRARY)
    run("-m", "django", "makemigrations", "-v", "0", "shop")
    run("-m", "django", "migrate", "-v", "0")
    return project


def test_what_django_made_itself_is_as_the_models_say(
    library: Path, execute: Execute, audit: Callable[..., list[dict[str, Any]]]
) -> None:
    execute("create table legacy (id bigint primary key, book_id bigint)")
    findings = audit("FK048 FK049 FK054 FK055 FK057")
    assert {
        (one["rule"], one["severity"], one["subject"]) for one in findings if one["rule"] != "FK057"
    } == {
        ("FK049", "info", "public.shop_tagged.number"),
        ("FK049", "info", "public.shop_tagged.text"),
        ("FK055", "info", 'public.shop_loan: book_id → public."Books of all"(id)'),
        ("FK055", "info", 'public.legacy: book_id → public."Books of all"(id)'),
    }
    emulated = {one["subject"].split()[0] for one in findings if one["rule"] == "FK057"}
    assert {one["severity"] for one in findings if one["rule"] == "FK057"} == {"info"}
    assert {"shop.Library.place_ptr", "shop.Library.keeper", "shop.Book.sequel"} <= emulated
    assert {
        "shop.Book_readers.book",
        "auth.User_groups.user",
        "auth.Permission.content_type",
    } <= emulated
    assert "shop.Book.at" not in emulated  # PROTECT: both refuse


def test_each_difference_to_the_database_is_named(
    library: Path, execute: Execute, audit: Callable[..., list[dict[str, Any]]]
) -> None:
    (name,) = execute(
        "select conname::text from pg_constraint where contype = 'f'"
        " and conrelid = 'shop_library'::regclass and confrelid = 'auth_user'::regclass"
    )[0]
    execute(
        f"""
        alter table "Books of all" alter at_id drop not null, alter sequel_id set not null;
        alter table shop_library alter constraint "{name}" not deferrable;
        alter table shop_library drop constraint {
            execute(
                "select quote_ident(conname) from pg_constraint where contype = 'f'"
                " and conrelid = 'shop_library'::regclass and confrelid = 'shop_place'::regclass"
            )[0][0]
        };
        alter table shop_loan add foreign key (book_id) references "Books of all";
        """
    )
    findings = audit("FK054 FK055")
    assert {one["detail"].partition(": ")[2] for one in findings if one["rule"] == "FK054"} == {
        "at_id is NOT NULL in the model, nullable in the database.",
        "sequel_id is nullable in the model, NOT NULL in the database.",
        "DEFERRABLE is INITIALLY DEFERRED in the model, NOT DEFERRABLE in the database.",
    }
    assert {(one["severity"], one["subject"]) for one in findings if one["rule"] == "FK055"} == {
        ("warning", "public.shop_library: place_ptr_id → public.shop_place(id)"),
    }


def test_rows_that_only_models_know_of_are_asked(
    library: Path, execute: Execute, audit: Callable[..., list[dict[str, Any]]]
) -> None:
    execute(
        """
        insert into shop_place values (1, 'a');
        insert into "Books of all" (id, at_id) values (1, 'a'), (2, 'a');
        insert into shop_loan values (1, 1), (2, 8), (3, 2), (4, 9);
        insert into shop_article values ('00000000-0000-0000-0000-000000000001');
        insert into shop_tagged (id, number, text, what_id)
        select row.id, number, text, kinds.id from django_content_type as kinds
        join (values
            (1, 'book', 1, '2'), (2, 'book', 7, '3'),
            (3, 'place', 1, null), (4, 'place', 2, '1'),
            (5, 'article', 1, '00000000-0000-0000-0000-000000000001'), (6, 'article', 1, 'x')
        ) as row (id, model, number, text) on row.model = kinds.model
        where app_label = 'shop';
        """
    )
    findings = audit("FK049 FK051", "--data")
    dangling = [one["detail"] for one in findings if one["rule"] == "FK051"]
    assert sorted(one.partition(" By id: ")[2] for one in dangling) == [
        "2 → 3.",
        "2 → 7.",
        "2 → 8 and 4 → 9.",
        "4 → 2.",
        "6 → x.",
    ]
    (by_number, by_text) = [one for one in findings if one["rule"] == "FK049"]
    assert "shop.Tagged.by_number is a GenericForeignKey" in by_number["detail"]
    assert "shop.book (2)" in by_number["detail"]
    assert 'to = "public.shop_article.id"' in by_text["toml"]


def test_tables_are_found_where_the_search_path_leads(
    library: Path, execute: Execute, run: Run, audit: Callable[..., list[dict[str, Any]]]
) -> None:
    execute("create schema store")
    run("-m", "django", "migrate", "-v", "0", IN_STORE="1")
    if not execute("select from pg_tables where schemaname = 'store'"):
        execute(
            'alter table shop_loan set schema store; alter table "Books of all" set schema store'
        )
    execute("alter table store.shop_loan alter book_id drop not null")
    (found,) = audit("FK055", IN_STORE="1")
    assert found["subject"].startswith("store.shop_loan: book_id → store.")


@pytest.mark.parametrize(
    ("options", "schemas"),
    [
        ("-c search_path=shop,public", ("shop", "public")),
        (r"-c statement_timeout=5s -csearch_path=shop,\ public", ("shop", "public")),
        ("--search_path=Shop", ("shop",)),
        ('-c search_path="Shop"', ("Shop",)),
        ("-c lock_timeout=1s", ()),
        ("", ()),
        ("-c search_path=a..b", ()),
    ],
)
def test_the_search_path_is_read_as_libpq_reads_it(options: str, schemas: tuple[str, ...]) -> None:
    assert read_search_path(options) == schemas


@pytest.mark.parametrize(
    ("module", "content", "told"),
    [
        ("nowhere.settings", "", "The settings nowhere.settings can't be imported."),
        ("broken", "1 / 0", "ZeroDivisionError"),
        ("empty", "", "lead to no model"),
        ("astray", "INSTALLED_APPS = ['no_such_app']", "The settings astray can't be used."),
    ],
)
def test_settings_that_do_not_serve_are_refused(
    project: Path, run: Run, module: str, content: str, told: str
) -> None:
    (project / f"{module.partition('.')[0]}.py").write_text(
        content
    ) if content or module == "empty" else None
    done = run("-m", "fkdoctor", "audit", "--django", module, code=2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_it_is_said_where_django_is_not_installed(project: Path, run: Run) -> None:
    (project / "without.py").write_text(
        "import sys\nsys.modules['django'] = None\nsys.argv[0] = 'fkdoctor'\n"
        "from fkdoctor.cli import main\nmain()\n"
    )
    done = run("without.py", "audit", "--django", "site_settings", code=2)
    assert "Django is not installed here." in done.stderr
