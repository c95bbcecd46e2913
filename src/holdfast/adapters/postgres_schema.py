"""The tables of one Holdfast in a PostgreSQL schema of their own, made when they are missing.

Whoever comes first makes them, in one transaction under a lock that all comers take: three nodes
may start at once. A role that may not create anything does when the schema was made by another one.
"""

from __future__ import annotations

from typing import Final

from holdfast.adapters.postgres_line import PostgresLine
from holdfast.core.errors import Unavailable

VERSION: Final = 1
_TABLES: Final = """
CREATE TABLE about (one int PRIMARY KEY CHECK (one = 1), version int NOT NULL);
INSERT INTO about VALUES (1, %d);

CREATE TABLE head (
    one int PRIMARY KEY CHECK (one = 1), revision bigint NOT NULL, hash bytea NOT NULL,
    mark text NOT NULL
);
INSERT INTO head VALUES (1, 0, decode(repeat('00', 32), 'hex'), '');

CREATE TABLE entries (revision bigint PRIMARY KEY, hash bytea NOT NULL, body bytea NOT NULL);

CREATE TABLE lease (
    one int PRIMARY KEY CHECK (one = 1), token bigint NOT NULL, holder text NOT NULL,
    url text NOT NULL, since timestamptz NOT NULL, until timestamptz NOT NULL
);
INSERT INTO lease VALUES (1, 0, '', '', '-infinity', '-infinity');

CREATE TABLE checkpoints (
    revision bigint PRIMARY KEY, checksum text NOT NULL, body bytea NOT NULL
);

CREATE SEQUENCE stamps;
CREATE TABLE blobs (digest bytea PRIMARY KEY, stamp bigint NOT NULL, body bytea NOT NULL);
ALTER TABLE blobs ALTER body SET STORAGE EXTERNAL;

CREATE TABLE imprints (
    environment text NOT NULL, service text NOT NULL, revision bigint NOT NULL,
    entry bytea NOT NULL, format int NOT NULL, digest bytea NOT NULL, build text NOT NULL,
    outline bytea NOT NULL, checksum bytea NOT NULL,
    PRIMARY KEY (environment, service, revision, entry, format)
);

CREATE TABLE proposals (
    place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, proposal text UNIQUE NOT NULL,
    due_s bigint, facts bytea NOT NULL, change bytea NOT NULL, checksum bytea NOT NULL
);
"""
TABLES: Final = (*("head", "entries", "lease", "checkpoints", "blobs", "imprints", "proposals"),)
# From the tables of the catalogue: `to_regclass` may answer from before the lock was given.
_THERE: Final = (
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = %s AND tablename = 'about')"
)


def make_tables(line: PostgresLine, *, there: bool = False) -> None:
    """Make the schema and its tables unless they are there; with `there`, they have to be.

    Raises `Unavailable` for tables of another version of Holdfast, and where they can't be made.
    """
    which = (line.schema,)
    if not line.rows(_THERE, which)[0][0]:
        if there:
            what = f"{line.name} holds no tables of Holdfast in schema {line.schema}"
            raise Unavailable(f"{what}: name the schema of one (?schema=)")
        with line.transaction(lock="tables") as connection:
            if connection.execute(_THERE.encode(), which).fetchone() != (True,):
                connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{line.schema}"'.encode())
                connection.execute((_TABLES % VERSION).encode())
    found = line.rows("SELECT version FROM about")
    if found != [(VERSION,)]:
        raise Unavailable(
            f"{line.name}: the tables in schema {line.schema} are of version "
            f"{found[0][0] if found else 'none'}, and this build knows version {VERSION}: run the "
            "build that made them, or name another schema"
        )
