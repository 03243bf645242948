# SPDX-License-Identifier: BSD-2-Clause
"""Who would be hurt by a host-wide switch: what of a host is found, and what is made of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl import endangered
from ktlsctl.advisories import MOVING_BUFFER
from ktlsctl.codec import encode
from ktlsctl.endangered import Inventory
from ktlsctl.facts import installed
from ktlsctl.facts.installed import Installed, Package, Process
from ktlsctl.facts.programs import Program, Programs
from ktlsctl.host import CapturedHost, LiveHost, Pending, RecordingHost
from ktlsctl.model import About, Attempt, Certainty, Library, Os, Outcome, Status, TlsVersion, Tri
from ktlsctl.scenarios.moving_write_buffer import Attempt as Moved
from ktlsctl.scenarios.moving_write_buffer import Facts as Sessions
from ktlsctl.sessionfacts import Carried, TrialFacts, TrialsFacts
from tests.libssls import SYSTEM
from tests.test_programs import LIB, Machine, debian

LIBSSL = f"{LIB}/libssl.so.3"


def library(version: str = "OpenSSL 3.0.22 7 Jul 2026", built: Tri = Tri.YES, path: str = LIBSSL) -> Library:
    return Library(path, version, "distribution", ("system",), Status.OK, "", built, "seen", Tri.NO)


def judged(facts: Installed, **options: frozenset[str]) -> dict[str, endangered.Endangered]:
    return {x.name: x for x in endangered.judge(facts, library(), **options).endangered}


POSTGRES = Program("PostgreSQL server", "/usr/lib/postgresql/15/bin/postgres", 15)
NOTHING = Programs(())
PYTHON = Process(17, "python3", "/usr/bin/python3.11", (LIBSSL, "/usr/lib/python3.11/lib-dynload/_ssl.x.so"))


def process(program: str, *libraries: str, pid: int = 17) -> Process:
    return Process(pid, program.rpartition("/")[2], program, (LIBSSL, *libraries))


# ---- what the library itself shows


def tried(host: CapturedHost, *before: Moved) -> CapturedHost:
    """The host on which these sessions were run, of which the server's kernel did the sending."""
    sent = Carried(server_tx=True)
    suite = "TLS_AES_128_GCM_SHA256"
    seen = [json.dumps(encode(Sessions(sent, 32, each, Moved(4, 0, 0)))) for each in before]
    trials = tuple(TrialFacts("moving-write-buffer", TlsVersion.TLS13, suite, "socket", seen=text) for text in seen)
    answer = Attempt.ran(encode(TrialsFacts("OpenSSL 3.0.22", LIBSSL, "", "", trials)))

    class Tried(CapturedHost):
        def begin(self, target: str, argument: object, timeout: float) -> Pending:
            assert target == "ktlsctl.trials.run:probe"
            return cast(Pending, Answered(answer))

    return Tried(host.about, host._answers, Outcome.ABSENT)


@dataclass
class Answered:
    said: Attempt[Any]

    def answer(self) -> Attempt[Any]:
        return self.said


def test_wrong_bytes_seen_in_a_trial_are_certain_and_bytes_seen_intact_outweigh_the_version() -> None:
    host = running((17, MAPS)).host()
    stale, intact = Moved(4, 3, 0), Moved(4, 0, 0)
    (found,) = endangered.inventory(host, library()).endangered
    assert (found.name, found.certainty) == ("python", Certainty.POSSIBLE)
    (found,) = endangered.inventory(tried(host, intact, stale), library()).endangered
    assert (found.name, found.certainty) == ("python", Certainty.PROVED)
    assert found.harm.endswith("seen here just now")
    assert endangered.inventory(tried(host, intact, intact), library()).endangered == ()


# ---- what is made of it


@pytest.mark.parametrize(
    ("version", "harm"),
    [
        ("OpenSSL 3.0.22 7 Jul 2026", "every TLS 1.2 connection fails"),
        ("OpenSSL 3.5.7 9 Jun 2026", "every TLS connection fails"),
        ("", "every TLS connection fails"),
    ],
)
def test_postgresql_up_to_17_breaks_under_every_library(version: str, harm: str) -> None:
    facts = Installed(Programs((POSTGRES,)), processes=(process(POSTGRES.path),))
    (found,) = [x for x in endangered.judge(facts, library(version)).endangered if x.name == "postgresql"]
    assert (found.harm, found.certainty) == (harm, Certainty.PROVED)
    assert found.installed == ("PostgreSQL server 15 (/usr/lib/postgresql/15/bin/postgres)",)
    assert found.running == ("/usr/lib/postgresql/15/bin/postgres (pid 17)",)


def test_postgresql_18_does_not_break() -> None:
    facts = Installed(
        Programs((Program("PostgreSQL server", "/p", 18), Program("libpq", f"{LIB}/libpq.so.5.18", 18))),
        (Package("postgresql-18", "18.1-1"), Package("libpq5", "18.1-1")),
        processes=(process("/usr/bin/psql", f"{LIB}/libpq.so.5.18"),),
    )
    assert judged(facts) == {}


def test_a_running_client_of_an_old_libpq_is_named() -> None:
    facts = Installed(NOTHING, processes=(process("/usr/bin/psql", f"{LIB}/libpq.so.5.15"),))
    assert judged(facts)["libpq"].running == ("/usr/bin/psql (pid 17)",)


def test_a_package_without_its_file_is_named_and_one_with_it_not_twice() -> None:
    packages = (
        Package("postgresql-15", "15.8-0+deb12u1"),
        Package("postgresql-16", "16.1-1"),
        Package("libpq5", "9.6"),
    )
    found = judged(Installed(Programs((POSTGRES,)), packages))
    assert found["postgresql"].installed == (str(POSTGRES), "package postgresql-16 16.1-1")
    assert found["libpq"].installed == ("package libpq5 9.6",)


@pytest.mark.parametrize(
    ("version", "hurt"),
    [
        ("OpenSSL 3.0.22 7 Jul 2026", True),
        ("OpenSSL 3.5.6 7 Apr 2026", True),
        ("OpenSSL 3.5.7 9 Jun 2026", False),
        ("OpenSSL 3.6.2 7 Apr 2026", True),
        ("OpenSSL 3.6.3 9 Jun 2026", False),
        ("OpenSSL 4.0.0 14 Apr 2026", True),
        ("OpenSSL 4.0.1 9 Jun 2026", False),
        ("something else", True),
    ],
)
def test_python_is_hurt_by_the_libraries_that_send_wrong_data(version: str, hurt: bool) -> None:
    found = endangered.judge(Installed(NOTHING, processes=(PYTHON,)), library(version)).endangered
    assert [x.name for x in found] == (["python"] if hurt else [])


def test_what_the_self_test_saw_outweighs_the_version() -> None:
    facts = Installed(NOTHING, processes=(PYTHON,))
    seen = frozenset({MOVING_BUFFER})
    assert judged(facts)["python"].certainty is Certainty.POSSIBLE
    assert judged(facts, proved=seen)["python"].certainty is Certainty.PROVED
    assert judged(facts, refuted=seen) == {}


@pytest.mark.parametrize(
    ("facts", "name", "shown"),
    [
        (Installed(NOTHING, pythons=("/usr/lib/python3.11/_ssl.so",)), "python", "/usr/lib/python3.11/_ssl.so"),
        (Installed(NOTHING, (Package("libruby3.1", "3.1.2-7"),)), "ruby", "package libruby3.1 3.1.2-7"),
        (Installed(NOTHING, (Package("ruby-libs", "3.0.7"),)), "ruby", "package ruby-libs 3.0.7"),
        (
            Installed(NOTHING, (Package("libio-socket-ssl-perl", "2.081-2"),)),
            "perl",
            "package libio-socket-ssl-perl 2.081-2",
        ),
        (Installed(NOTHING, (Package("redis-server", "5:7.0.15-1"),)), "redis", "package redis-server 5:7.0.15-1"),
        (Installed(NOTHING, (Package("stunnel4", "3:5.68-2"),)), "stunnel", "package stunnel4 3:5.68-2"),
        (Installed(NOTHING, (Package("lighttpd", "1.4.69-1"),)), "lighttpd", "package lighttpd 1.4.69-1"),
        (Installed(NOTHING, processes=(process("/usr/bin/stunnel4"),)), "stunnel", "/usr/bin/stunnel4 (pid 17)"),
        (
            Installed(NOTHING, processes=(process("/usr/bin/valkey-server"),)),
            "redis",
            "/usr/bin/valkey-server (pid 17)",
        ),
        (
            Installed(NOTHING, processes=(process("/usr/bin/ruby", f"{LIB}/ruby/3.1.0/openssl.so"),)),
            "ruby",
            "/usr/bin/ruby (pid 17)",
        ),
        (
            Installed(NOTHING, processes=(process("/usr/bin/perl", f"{LIB}/perl5/5.36/auto/Net/SSLeay/SSLeay.so"),)),
            "perl",
            "/usr/bin/perl (pid 17)",
        ),
    ],
)
def test_programs_that_set_the_mode_are_named_where_they_are(facts: Installed, name: str, shown: str) -> None:
    (found,) = judged(facts).values()
    assert found.name == name
    assert shown in (*found.installed, *found.running)
    assert "SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER" in found.why


def test_many_processes_of_one_program_take_one_line() -> None:
    facts = Installed(NOTHING, processes=tuple(process("/usr/bin/stunnel", pid=n) for n in range(1, 9)))
    assert judged(facts)["stunnel"].running == ("/usr/bin/stunnel (pid 1, 2, 3, 4, 5, ...)",)


def test_of_a_running_program_that_nobody_tested_it_is_said_that_nothing_is_known() -> None:
    known = ("/usr/sbin/nginx", "/usr/bin/curl", "/usr/sbin/apache2", "/usr/sbin/mariadbd")
    running = (
        *(process(program) for program in known),
        process("/opt/rust/server"),
        process("/opt/rust/server", pid=9),
    )
    found = endangered.judge(Installed(NOTHING, processes=running), library())
    assert found == Inventory((), ("/opt/rust/server",), ())


def test_a_running_server_that_was_found_nowhere_is_taken_to_break() -> None:
    new = Program("PostgreSQL server", "/usr/lib/postgresql/18/bin/postgres", 18)
    assert judged(Installed(Programs((new,)), processes=(process(new.path),))) == {}
    assert judged(Installed(Programs((new,)), processes=(process("/opt/pg/postgres"),)))["postgresql"].running


def test_a_library_of_one_application_hurts_only_what_has_it_mapped() -> None:
    own = Library("/opt/app/libssl.so.3", "OpenSSL 3.0.22", "local", (), Status.OK, "", Tri.YES, "seen", Tri.NO)
    facts = Installed(Programs((POSTGRES,)), (Package("redis", "7"),), processes=(PYTHON,))
    assert [x.name for x in endangered.judge(facts, own).endangered] == ["python"]


def test_a_library_without_ktls_hurts_nobody() -> None:
    facts = Installed(Programs((POSTGRES,)), processes=(PYTHON,))
    assert endangered.judge(facts, library(built=Tri.NO)) == Inventory()


# ---- what is found


STATUS = """\
Package: libpq5
Status: install ok installed
Version: 15.8-0+deb12u1
Description: PostgreSQL C client library
 Package: not-this

Package: postgresql-15
Status: deinstall ok config-files
Version: 15.8-0+deb12u1

Package: bash
Status: install ok installed
Version: 5.2
"""
ROCKY = About(Os.LINUX, "5.14", "x86_64", True)


def test_debian_says_what_is_installed_and_nothing_else_is_kept() -> None:
    assert installed.keep_packages(STATUS.encode()) == b"libpq5 15.8-0+deb12u1\n"
    host = debian().file("/var/lib/dpkg/status", installed.keep_packages(STATUS.encode()).decode()).host()
    assert installed.gather(host, LIBSSL).packages == (Package("libpq5", "15.8-0+deb12u1"),)


def ran(stdout: str) -> Attempt[object]:
    return Attempt.ran({"status": 0, "stdout": stdout, "stderr": ""})


def test_alpines_database_is_read_and_a_host_without_any_package_manager_is_not_called_empty() -> None:
    database = b"C:Q1x=\nP:redis\nV:7.2.5-r0\nA:x86_64\nF:usr\nR:P:x\n\nP:busybox\nV:1.36-r1\n"
    kept = installed.keep_alpine_packages(database)
    assert kept == b"redis 7.2.5-r0\n"
    answers: dict[tuple[str, str], Attempt[Any]] = {("read", "/lib/apk/db/installed"): Attempt.ran(kept)}
    found = installed.gather(CapturedHost(ROCKY, answers, Outcome.ABSENT), LIBSSL)
    assert found.packages == (Package("redis", "7.2.5-r0"),)
    bare = installed.gather(CapturedHost(ROCKY, {}, Outcome.ABSENT), LIBSSL)
    assert "installed packages: neither dpkg, apk nor rpm is here" in bare.unseen


def test_what_several_libraries_endanger_is_one_entry_with_the_worse_certainty_and_all_places() -> None:
    (python,) = judged(Installed(NOTHING, pythons=("/a",))).values()
    proved = replace(python, certainty=Certainty.PROVED, harm="seen", installed=("/b", "/a"))
    both = endangered.merged([Inventory((python,), ("x",)), Inventory((proved,), ("x", "y"))])
    assert both == Inventory((replace(proved, installed=("/a", "/b")),), ("x", "y"))


def test_rpm_and_freebsds_pkg_say_it_too() -> None:
    globs = installed._PACKAGES
    rpm = json.dumps(("rpm", "-qa", "--qf", "%{NAME} %{VERSION}\n", *globs))
    host = CapturedHost(ROCKY, {("run", rpm): ran("postgresql-server 13.16\nlibpq 13.11\n")}, Outcome.ABSENT)
    names = {x.name for x in endangered.inventory(host, library()).endangered}
    assert names == {"postgresql", "libpq"}
    pkg = json.dumps(("pkg", "query", "-g", "%n %v", *globs))
    answers = {("run", pkg): ran("postgresql16-server 16.4\npostgresql16-client 16.4\nruby 3.2.5,1\n")}
    freebsd = CapturedHost(About(Os.FREEBSD, "14.3-RELEASE", "amd64", True), answers, Outcome.ABSENT)
    found = endangered.inventory(freebsd, library("OpenSSL 3.0.16 11 Feb 2025"))
    assert [x.name for x in found.endangered] == ["postgresql", "libpq", "ruby"]


MAPS = f"""\
55d0-55d1 r--p 00000000 08:01 111                        /usr/bin/python3.11
7f00-7f01 r--p 00000000 08:01 222                        {LIBSSL}
7f01-7f02 r-xp 00001000 08:01 222                        {LIBSSL}
7f02-7f03 r--p 00000000 08:01 333                        /usr/lib/python3.11/lib-dynload/_ssl.cpython-311.so
7f03-7f04 rw-p 00000000 00:00 0                          [heap]
7f04-7f05 rw-p 00000000 00:00 0
7f05-7f06 r--s 00000000 08:01 444                        /home/someone/secret name.txt
"""


def running(*pids: tuple[int, str]) -> Machine:
    machine = debian().folder("/proc", *(str(pid) for pid, _ in pids), "self", "net")
    for pid, maps in pids:
        machine.file(f"/proc/{pid}/maps", installed.keep_mapped(maps.encode()).decode())
        machine.file(f"/proc/{pid}/comm", "python3\n").link(f"/proc/{pid}/exe", "/usr/bin/python3.11")
    machine._answers["ask", f"inode {LIBSSL}"] = Attempt.ran(222)
    return machine


def test_a_process_is_known_by_what_it_has_mapped_and_nothing_else_is_kept() -> None:
    kept = installed.keep_mapped(MAPS.encode()).decode()
    assert kept == f"222 {LIBSSL}\n333 /usr/lib/python3.11/lib-dynload/_ssl.cpython-311.so"
    found = installed.gather(running((17, MAPS)).host(), LIBSSL).processes
    assert found == (
        Process(17, "python3", "/usr/bin/python3.11", (LIBSSL, "/usr/lib/python3.11/lib-dynload/_ssl.cpython-311.so")),
    )


def test_a_containers_own_file_of_the_same_path_is_another_library() -> None:
    assert installed.gather(running((17, MAPS.replace(" 222 ", " 999 "))).host(), LIBSSL).processes == ()


def test_a_library_that_was_replaced_since_counts() -> None:
    old = MAPS.replace(" 222 ", " 999 ").replace(LIBSSL, f"{LIBSSL} (deleted)")
    assert [p.pid for p in installed.gather(running((17, old)).host(), LIBSSL).processes] == [17]


def test_what_this_user_may_not_see_is_said() -> None:
    host = running((17, MAPS), (18, MAPS)).hides("read", "/proc/18/maps").hides("read", "/var/lib/dpkg/status").host()
    found = endangered.inventory(host, library())
    assert "1 of 2 processes may not be looked into by this user" in found.unseen
    assert "/var/lib/dpkg/status: Permission denied" in found.unseen


PROCSTAT = """\
  PID              START                END PRT    RES PRES REF SHD FLAG  TP PATH
  812           0x200000           0x24f000 r--     79  300   3   1 CN--- vn /usr/local/bin/stunnel
  812     0x8012345678ab     0x801234600000 r-x     10   20   2   1 CN--- vn /usr/lib/libssl.so.30
  812     0x801234600000     0x801234700000 rw-     10   20   2   1 ----- df
  813     0x8012345678ab     0x801234600000 r-x     10   20   2   1 CN--- vn /usr/lib/libssl.so.30
"""


def test_freebsd_says_what_is_mapped_outside_of_jails() -> None:
    answers = {
        ("run", json.dumps(("procstat", "-a", "-v"))): ran(PROCSTAT),
        ("run", json.dumps(("ps", "-ax", "-o", "pid=", "-o", "jid=", "-o", "comm="))): ran(
            "    1   0 init\n  812   0 stunnel\n  813   2 nginx\n"
        ),
    }
    host = CapturedHost(About(Os.FREEBSD, "14.3-RELEASE", "amd64", False), answers, Outcome.ABSENT)
    found = installed.gather(host, "/usr/lib/libssl.so.30")
    assert found.processes == (Process(812, "stunnel", "/usr/local/bin/stunnel", ("/usr/lib/libssl.so.30",)),)
    assert found.unseen == ("processes of other users may not be looked into by this user",)


@pytest.mark.parametrize(
    ("path", "soname", "same"),
    [
        ("/usr/lib64/libssl.so.3.0.7", "libssl.so.3", True),
        (LIBSSL, "libssl.so.3", True),
        ("/usr/lib/libssl.so.30", "libssl.so.3", False),
        (LIBSSL, "libssl.so.1.1", False),
        (LIBSSL, "", False),
    ],
)
def test_a_file_bears_the_name_that_a_program_asks_for(path: str, soname: str, same: bool) -> None:
    assert installed.is_named(path, soname) is same


# ---- this machine


@pytest.fixture(scope="module")
def client() -> Iterator[int]:
    """The process of a Python that has the system's libssl mapped."""
    code = f"import ctypes; ctypes.CDLL({SYSTEM!r}); print('ready', flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    yield child.pid
    child.kill()
    child.communicate()


def test_on_this_machine_a_running_program_is_found_and_a_capture_says_the_same(client: int) -> None:
    recording = RecordingHost(LiveHost())
    subject = library(path=SYSTEM)
    found = installed.gather(recording, SYSTEM)
    (own,) = [process for process in found.processes if process.pid == client]
    assert (os.path.realpath(own.program), SYSTEM in own.libraries) == (os.path.realpath(sys.executable), True)
    live = endangered.judge(found, subject)
    assert endangered.inventory(CapturedHost.parse(json.dumps(recording.document("now")).encode()), subject) == live


def test_on_this_machine_the_distributions_python_is_seen_to_use_the_libssl() -> None:
    said = subprocess.run(
        ["/usr/bin/python3", "-c", "import _ssl; print(_ssl.__file__)"], capture_output=True, text=True, check=True
    )
    assert os.path.realpath(said.stdout.strip()) in map(os.path.realpath, installed.gather(LiveHost(), SYSTEM).pythons)


# ---- hostile input


@given(st.binary(max_size=300) | st.sampled_from([STATUS, MAPS]).flatmap(lambda t: st.just(t.encode()[: len(t) // 2])))
def test_any_bytes_pass_the_filters_and_what_is_kept_is_read(content: bytes) -> None:
    for package in installed.parse_packages(installed.keep_packages(content).decode()):
        assert package.name
    for inode, path in installed.parse_mapped(installed.keep_mapped(content)):
        assert inode >= 0
        assert path.startswith("/")
    installed.parse_mapped(content)
    installed.keep_needed(content)


WORDS = ["1", "812 ", "0", " vn /x", "0x1", "\n", " ", "²", "libpq5", "é", "stunnel 5\n", "99999999999", "\x85", "\r"]


@given(st.lists(st.sampled_from(WORDS), max_size=20).map("".join) | st.text(max_size=60))
def test_any_text_of_a_command_is_read(text: str) -> None:
    assert all(pid >= 0 and name for pid, name in installed.parse_ps(text))
    assert all(paths for paths in installed.parse_procstat(text).values())
    assert all(package.version for package in installed.parse_packages(text))
    assert installed.major(text) is None or text
