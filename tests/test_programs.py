# SPDX-License-Identifier: BSD-2-Clause
"""What is found without opening anything: libraries on the linker's paths, and programs known to break under kTLS."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.facts import libraries, programs
from ktlsctl.facts.libraries import Found, Libpq, Origin
from ktlsctl.facts.programs import Program
from ktlsctl.host import CapturedHost, LiveHost
from ktlsctl.model import About, Attempt, Os, Outcome
from tests.elsewhere import linux_only
from tests.libssls import SYSTEM

LIB = "/usr/lib/x86_64-linux-gnu"


class Machine:
    """A captured host put together folder by folder."""

    def __init__(self, system: Os = Os.LINUX, machine: str = "x86_64") -> None:
        self._about = About(system, "1", machine, False)
        self._answers: dict[tuple[str, str], Attempt[Any]] = {}

    def folder(self, path: str, *names: str, real: str | None = None) -> Machine:
        """A directory with files in it; `real`: where a link of this name leads."""
        self._answers["resolve", path] = Attempt.ran(real or path)
        if real is None:
            self._answers["names", path] = Attempt.ran(list(names))
            for name in names:
                self._answers["resolve", f"{path}/{name}"] = Attempt.ran(f"{path}/{name}")
        return self

    def link(self, path: str, real: str) -> Machine:
        self._answers["resolve", path] = Attempt.ran(real)
        return self

    def file(self, path: str, content: str) -> Machine:
        self._answers["read", path] = Attempt.ran(content.encode())
        return self

    def says(self, *argv: str, stdout: str) -> Machine:
        self._answers["run", json.dumps(argv)] = Attempt.ran({"status": 0, "stdout": stdout, "stderr": ""})
        return self

    def hides(self, door: str, path: str) -> Machine:
        self._answers[door, path] = Attempt(Outcome.DENIED, reason="Permission denied")
        return self

    def host(self) -> CapturedHost:
        return CapturedHost(self._about, self._answers, Outcome.ABSENT)


def debian() -> Machine:
    return (
        Machine()
        .file("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n")
        .folder("/etc/ld.so.conf.d", "libc.conf", "x86_64-linux-gnu.conf", "README")
        .file("/etc/ld.so.conf.d/libc.conf", "# libc default configuration\n/usr/local/lib\n")
        .file(
            "/etc/ld.so.conf.d/x86_64-linux-gnu.conf",
            f"/usr/local/lib/x86_64-linux-gnu\n/lib/x86_64-linux-gnu\n{LIB}\n",
        )
        .file("/etc/ld.so.conf.d/README", "/nowhere\n")
        .folder("/usr/lib", "x86_64-linux-gnu", "python3")
        .folder("/lib/x86_64-linux-gnu", real=LIB)
    )


def test_the_systems_libssl_is_found_once_and_said_to_be_the_linkers() -> None:
    host = (
        debian()
        .folder(LIB, "libc.so.6", "libssl.so", "libssl.so.3", "libssl3.so")
        .link(f"{LIB}/libssl.so", f"{LIB}/libssl.so.3")
        .host()
    )
    assert libraries.search(host).libssl == (Found(f"{LIB}/libssl.so.3", "libssl.so.3", Origin.DISTRIBUTION, True),)


@linux_only
def test_on_this_machine_the_search_finds_what_the_dynamic_linker_gives() -> None:
    found = [f for f in libraries.search(LiveHost()).libssl if f.linked and f.name == "libssl.so.3"]
    assert [f.path for f in found] == [SYSTEM]


@pytest.mark.parametrize(
    "name",
    ["libssl3.so", "libssl.so.3.hmac", ".libssl.so.3.hmac", "libssl.a", "libssl.pc", "libsslcommon.so", "xlibssl.so"],
)
def test_files_that_only_look_like_a_libssl_are_left_alone(name: str) -> None:
    assert libraries.search(debian().folder(LIB, name).host()).libssl == ()


@pytest.mark.parametrize(
    "name", ["libssl.so.3", "libssl.so.1.0.2k", "libssl.so.1.1", "libssl.so", "libssl-8bd944e8.so.3"]
)
def test_every_way_to_name_a_libssl_is_known(name: str) -> None:
    (found,) = libraries.search(debian().folder(LIB, name).host()).libssl
    assert found.name == name


def test_a_local_library_shadows_the_distributions_of_the_same_name_only() -> None:
    host = debian().folder("/usr/local/lib", "libssl.so.3").folder(LIB, "libssl.so.1.1", "libssl.so.3").host()
    assert [(f.path, f.origin, f.linked) for f in libraries.search(host).libssl] == [
        ("/usr/local/lib/libssl.so.3", Origin.LOCAL, True),
        (f"{LIB}/libssl.so.1.1", Origin.DISTRIBUTION, True),
        (f"{LIB}/libssl.so.3", Origin.DISTRIBUTION, False),
    ]


def test_other_architectures_and_opt_are_searched_but_are_not_the_linkers() -> None:
    host = (
        debian()
        .folder("/usr/lib", "i386-linux-gnu", "x86_64-linux-gnu")
        .folder("/usr/lib/i386-linux-gnu", "libssl.so.3")
        .folder("/opt", "acme")
        .folder("/opt/acme/lib", "libssl.so.3")
        .host()
    )
    assert [(f.path, f.linked) for f in libraries.search(host).libssl] == [
        ("/usr/lib/i386-linux-gnu/libssl.so.3", False),
        ("/opt/acme/lib/libssl.so.3", False),
    ]


def test_a_folder_that_may_not_be_listed_is_named_and_not_taken_for_missing() -> None:
    host = debian().folder(LIB).hides("resolve", "/usr/local/lib64").host()
    assert libraries.search(host).unseen == ("/usr/local/lib64: Permission denied",)


def test_a_capture_without_library_paths_does_not_say_that_there_are_none() -> None:
    host = CapturedHost(About(Os.LINUX, "1", "x86_64", False), {})
    assert libraries.search(host).unseen


def test_musl_has_no_ld_so_conf() -> None:
    host = Machine().folder("/lib", "libssl.so.3").folder("/usr/lib").host()
    assert libraries.search(host).libssl == (Found("/lib/libssl.so.3", "libssl.so.3", Origin.DISTRIBUTION, True),)


def test_freebsd_has_base_before_ports() -> None:
    host = (
        Machine(Os.FREEBSD, "amd64")
        .folder("/lib", "libcrypto.so.30")
        .folder("/usr/lib", "libssl.so", "libssl.so.30")
        .link("/usr/lib/libssl.so", "/usr/lib/libssl.so.30")
        .folder("/usr/local/lib", "libpq.so.5.17", "libssl.so.16")
        .host()
    )
    found = libraries.search(host)
    assert [(f.path, f.origin) for f in found.libssl] == [
        ("/usr/lib/libssl.so.30", Origin.DISTRIBUTION),
        ("/usr/local/lib/libssl.so.16", Origin.PORTS),
    ]
    assert found.libpq == (Libpq("/usr/local/lib/libpq.so.5.17", 17),)


def test_ld_so_conf_is_read_as_ldconfig_reads_it() -> None:
    text = b"include conf.d/*.conf\n/a/ /b:/c # no\n\n#/d\nhwcap 1 /e\n/f=libc5\nrelative\n"
    assert libraries.parse_ld_so_conf(text) == ("include conf.d/*.conf", "/a", "/b", "/c", "/f")


def test_an_include_is_relative_to_the_file_that_has_it() -> None:
    host = Machine().file("/etc/ld.so.conf", "include conf.d/*.conf\n").folder("/etc/conf.d", "x.conf").host()
    assert list(libraries._linker_directories(host, "/etc/ld.so.conf", 1)) == []
    host = (
        Machine()
        .file("/etc/ld.so.conf", "include conf.d/*.conf\n")
        .folder("/etc/conf.d", "x.conf")
        .file("/etc/conf.d/x.conf", "/x\n")
        .host()
    )
    assert list(libraries._linker_directories(host, "/etc/ld.so.conf", 1)) == ["/x"]


@given(st.binary(max_size=300))
def test_any_bytes_are_an_ld_so_conf(content: bytes) -> None:
    for entry in libraries.parse_ld_so_conf(content):
        assert entry.startswith(("/", "include"))


@given(st.binary(max_size=100))
def test_an_ld_so_conf_that_includes_itself_ends(content: bytes) -> None:
    answers: dict[tuple[str, str], Attempt[Any]] = {
        ("read", "/etc/ld.so.conf"): Attempt.ran(b"include /etc/*\n" + content),
        ("names", "/etc"): Attempt.ran(["ld.so.conf"]),
    }
    libraries.search(CapturedHost(About(Os.LINUX, "1", "x86_64", False), answers, Outcome.ABSENT))


@pytest.mark.parametrize(
    ("package", "name", "listed"),
    [
        ("libssl3:amd64", "libssl.so.3", f"{LIB}/libssl.so.3"),
        ("libssl3t64:amd64", "libssl.so.3", f"{LIB}/libssl.so.3"),
        ("libssl1.1:amd64", "libssl.so.1.1", "/lib/x86_64-linux-gnu/libssl.so.1.1"),
    ],
)
def test_the_package_is_the_one_whose_list_has_the_file(package: str, name: str, listed: str) -> None:
    host = Machine().file(f"/var/lib/dpkg/info/{package}.list", f"/.\n/usr\n{listed}\n").host()
    found = Found(f"{LIB}/{name}", name, Origin.DISTRIBUTION, True)
    assert libraries.package_of(host, found) == package


def test_a_file_that_no_package_lists_belongs_to_none() -> None:
    found = Found(f"{LIB}/libssl.so.3", "libssl.so.3", Origin.DISTRIBUTION, True)
    assert libraries.package_of(Machine().host(), found) == ""
    assert libraries.package_of(Machine(Os.FREEBSD, "amd64").host(), found) == ""


# ---- programs


def test_postgresql_is_found_where_each_distribution_puts_it() -> None:
    host = (
        Machine()
        .folder("/usr/lib/postgresql", "15", "18", "common")
        .link("/usr/lib/postgresql/15/bin/postgres", "/usr/lib/postgresql/15/bin/postgres")
        .link("/usr/lib/postgresql/18/bin/postgres", "/usr/lib/postgresql/18/bin/postgres")
        .folder("/usr", "pgsql-16", "bin")
        .link("/usr/pgsql-16/bin/postgres", "/usr/pgsql-16/bin/postgres")
        .folder("/usr/libexec", "postgresql17")
        .link("/usr/libexec/postgresql17/postgres", "/usr/libexec/postgresql17/postgres")
        .host()
    )
    found = programs.gather(host, (Libpq(f"{LIB}/libpq.so.5.18", 18), Libpq("/opt/x/lib/libpq.so.5.14", 14)))
    assert [(p.name, p.release, p.breaks) for p in found.found] == [
        ("PostgreSQL server", 15, True),
        ("PostgreSQL server", 18, False),
        ("PostgreSQL server", 16, True),
        ("PostgreSQL server", 17, True),
        ("libpq", 18, False),
        ("libpq", 14, True),
    ]


def test_a_server_without_a_release_in_its_path_is_asked_for_it() -> None:
    path = "/usr/local/bin/postgres"
    machine = Machine(Os.FREEBSD, "amd64").link(path, path)
    asked = machine.says(path, "--version", stdout="postgres (PostgreSQL) 18.1\n").host()
    assert programs.gather(asked, ()).found == (Program("PostgreSQL server", path, 18),)


def test_a_server_that_does_not_tell_its_release_is_taken_to_break() -> None:
    path = "/usr/bin/postgres"
    (found,) = programs.gather(Machine().link(path, path).host(), ()).found
    assert (found.release, found.breaks) == (None, True)


def test_a_release_folder_without_a_server_is_no_server() -> None:
    host = Machine().folder("/usr/lib/postgresql", "15").host()
    assert programs.gather(host, ()).found == ()


def test_a_server_that_may_not_be_seen_is_named_as_such() -> None:
    host = Machine().hides("resolve", "/usr/bin/postgres").host()
    assert programs.gather(host, ()).unseen == ("/usr/bin/postgres: Permission denied",)


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("postgres (PostgreSQL) 16.4 (Debian 16.4-1.pgdg120+2)\n", 16),
        ("postgres (PostgreSQL) 9.6.24\n", 9),
        ("postgres (EnterpriseDB) x\n", None),
    ],
)
def test_the_release_stands_in_the_version_text(text: str, release: int | None) -> None:
    assert programs.parse_version(text) == release


@given(st.text())
def test_any_text_has_a_release_or_none(text: str) -> None:
    found = programs.parse_version(text)
    assert found is None or found >= 0
