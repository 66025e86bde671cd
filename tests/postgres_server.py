"""A real PostgreSQL for the tests in tests/engines/postgres, some of which stop it and start it again.

bash tests/engines/setup.sh start FOLDER postgres, then the export that it prints.
"""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from studies.store.leases import MARK
from studies.store.leases_postgres import PostgresLeases
from studies.store.run_store import RunStore

HERE = Path(__file__).resolve().parent
URL = os.environ.get("BENCH_TEST_POSTGRES", "")
REASON = "needs BENCH_TEST_POSTGRES: bash tests/engines/setup.sh start FOLDER postgres"
MARKS = [pytest.mark.engines, pytest.mark.skipif(not URL, reason=REASON)]
RUN = "ab" * 8

RACE = """
import os, sys
from studies.store.database import storage_of
from studies.store.run_store import RunStore

store = RunStore(sys.argv[1], storage=storage_of(os.environ["BENCH_TEST_POSTGRES"]))
store.leases.check()
print("ready", flush=True)
for line in sys.stdin:
    print("won" if store.claim(line.strip()) else "lost", flush=True)
"""


def leases(runs: RunStore) -> PostgresLeases:
    """As another process on the same folder has them."""
    return RunStore(runs.root, storage=runs.storage).leases  # type: ignore[return-value]


def rows(runs: RunStore) -> list[tuple]:
    found = json.loads((runs.root / "leases" / MARK).read_text())["id"]
    import psycopg2

    with psycopg2.connect(URL) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT run, nonce FROM bench_leases WHERE store = %s ORDER BY run", (found,))
        return cursor.fetchall()


def ask(sql: str) -> list[tuple]:
    import psycopg2

    connection = psycopg2.connect(URL)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()
    finally:
        connection.close()


@contextmanager
def stopped_server():
    """The server is down in the block."""
    folder = Path(ask("SHOW data_directory")[0][0]).parent.parent
    setup = ["bash", str(HERE / "engines" / "setup.sh")]
    subprocess.run([*setup, "stop", str(folder), "postgres"], check=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run([*setup, "start", str(folder), "postgres"], check=True, timeout=60, stdout=subprocess.DEVNULL)


def python(code: str, *arguments: object, **more) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


DRIVER = """
import os, sys
from fake_execute import spec
from studies.engines.run import run
from studies.store.database import storage_of
from studies.store.run_store import RunStore

if __name__ == "__main__":
    store = RunStore(sys.argv[1] + "/results", storage=storage_of(os.environ["BENCH_TEST_POSTGRES"]))
    s = run(eval(sys.argv[2]), store, workers=2, data_root=sys.argv[1], execute="fake_execute:execute", preload=())
    print(len(s.done), len(s.failed))
"""


def start_driver(tmp_path, specs: str) -> subprocess.Popen:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    command = [sys.executable, str(script), str(tmp_path), specs]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
