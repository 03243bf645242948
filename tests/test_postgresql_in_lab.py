# SPDX-License-Identifier: BSD-2-Clause
"""A real program whose own BIO lies: the distribution's PostgreSQL with kernel TLS on for the whole library."""

from __future__ import annotations

import json

import pytest

from tests.lab import DEBIAN13, Guest

pytestmark = pytest.mark.lab

on_one_host = pytest.mark.parametrize("lab_guest", [pytest.param(DEBIAN13, id="debian13")], indirect=True)

#: A server of its own in /tmp/pg; `try_it` starts it, asks it one question over TLS and stops it.
SCRIPT = r"""
set -u
modprobe tls
export PATH="$(ls -d /usr/lib/postgresql/*/bin):$PATH" LC_ALL=C
mkdir -p /tmp/pg && chown nobody /tmp/pg
as() { setpriv --reuid=nobody --clear-groups env HOME=/tmp/pg "$@"; }
as initdb --no-sync --no-instructions -A trust -U me -D /tmp/pg/data >/tmp/pg.log 2>&1 || { cat /tmp/pg.log; exit 1; }
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -days 2 \
    -keyout /tmp/pg/data/server.key -out /tmp/pg/data/server.crt 2>/dev/null
chown nobody /tmp/pg/data/server.*; chmod 600 /tmp/pg/data/server.key
printf 'openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nOptions = KTLS\n' >/tmp/pg/ktls.cnf
try_it() {
    as env OPENSSL_CONF="$1" pg_ctl -s -w -t 60 -D /tmp/pg/data -l /tmp/pg/server.log \
        -o "-c ssl=on -c listen_addresses=127.0.0.1 -c port=54321 -k /tmp/pg" start >/dev/null 2>&1
    as timeout 30 psql "host=127.0.0.1 port=54321 user=me dbname=postgres sslmode=require connect_timeout=10" \
        -Atc 'select version() from pg_stat_ssl where ssl and pid = pg_backend_pid()' 2>&1 | sed "s/^/$2: /"
    as pg_ctl -s -m immediate -D /tmp/pg/data stop
}
try_it /etc/ssl/openssl.cnf without
try_it /tmp/pg/ktls.cnf with
grep -i 'could not accept SSL connection\|SSL error' /tmp/pg/server.log | sed 's/^/log: /'
rm -rf /tmp/pg /tmp/pg.log
"""


@on_one_host
def test_postgresql_cannot_be_reached_with_kernel_tls_on_for_the_whole_library_and_the_scenario_names_it(
    lab_guest: Guest,
) -> None:
    lines = lab_guest.run(SCRIPT, timeout=240).check().out.splitlines()
    without = [line for line in lines if line.startswith("without: ")]
    assert without == [line for line in without if line.startswith("without: PostgreSQL 17.")], lines
    assert without, lines
    broken = "\n".join(line for line in lines if line.startswith("with: "))
    assert "PostgreSQL 17." not in broken, lines
    assert "connection to server" in broken, lines
    assert "failed" in broken or "SSL" in broken, lines

    command = f"{lab_guest.ktlsctl} selftest --scenario lying-bio --json"
    report = json.loads(lab_guest.run(command, timeout=120).out)
    assert [r["known"] for r in report["results"]] == [["openssl.lying-bio"]] * 2
    (notice,) = [n for n in report["advisories"] if n["id"] == "openssl.lying-bio"]
    assert notice["certainty"] == "proved"
    assert "PostgreSQL" in notice["summary"]
    assert "per service" in notice["remedy"]["text"]
    lab_guest.run("rmmod tls")
