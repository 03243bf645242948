# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl libraries`: what is concluded from what the processes carry, and how it is told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl import libraries
from ktlsctl.cli import cli
from ktlsctl.facts import gnutlsconf, packages
from ktlsctl.facts.answers import Answer, Fault
from ktlsctl.facts.tlsfiles import Content, Family, Implementation
from ktlsctl.facts.tlsscan import File, Look, Order, Scan, Sight
from ktlsctl.host import Ran
from ktlsctl.libraries import Facts
from ktlsctl.model import (
    Armed,
    Attempt,
    Check,
    Link,
    Mode,
    Outcome,
    Owner,
    Reach,
    Report,
    Session,
    Status,
    TlsProcess,
    Tri,
    Verdict,
)
from ktlsctl.render import jsondoc, libraries_text
from ktlsctl.schema import report_schema
from tests import hosts, reports
from tests.libssls import SYSTEM, suites
from tests.test_tlsscan import load, running

VALIDATOR = jsonschema.Draft202012Validator(json.loads(report_schema()))

LIBSSL, PRIVATE = "/usr/lib/x86_64-linux-gnu/libssl.so.3", "/venv/site-packages/psycopg2_binary.libs/libssl-8b.so.3"
YES = Implementation(Family.OPENSSL, False, "", Tri.YES, "it imports sendfile")
NO = Implementation(Family.OPENSSL, False, "", Tri.NO, "it does not import sendfile")
STATIC = Implementation(Family.OPENSSL, True, "OpenSSL 3.0.19 27 Jan 2026")


def content(*found: Implementation, **more: Any) -> Content:
    return Content(implementations=found, **more)


SYSTEM_FILE = File(LIBSSL, "fe:00:1", False, content=content(YES, build_id="aa"), here=True, own=LIBSSL)
SYSTEM_CRYPTO = File(
    "/usr/lib/x86_64-linux-gnu/libcrypto.so.3", "fe:00:2", False, content=content(crypto_version="X 1")
)
PRIVATE_FILE = File(PRIVATE, "fe:00:3", False, content=content(NO, build_id="bb"), here=True)
PRIVATE_CRYPTO = File(
    PRIVATE.replace("ssl-", "crypto-"), "fe:00:4", False, content=content(crypto_version="OpenSSL 3.5.8 25 Aug 2026")
)
ANSWER = Answer(version="OpenSSL 3.0.22 2 Jun 2026", config_file="/usr/lib/ssl/openssl.cnf", suites=suites((3, 0)))


def look(pid: int, *files: int, name: str = "nginx", **more: Any) -> Look:
    return Look(pid, name, Sight.SEEN, files=files, program=f"/usr/sbin/{name}", **more)


def socket_of(*pids: int, armed: Armed = Armed.KERNEL) -> Session:
    return Session(
        armed=armed, tcp_state="ESTABLISHED", version="TLSv1.3", cipher="AES-128-GCM", suite=None, tx=Mode.SOFTWARE,
        rx=Mode.NONE, zerocopy_tx=None, no_pad_rx=None, tx_max_payload=None,
        owners=tuple(Owner(pid, "x") for pid in pids), service=None, namespace=None, local="127.0.0.1", local_port=443,
        remote="127.0.0.1", remote_port=5, bytes_acked=None, bytes_received=None, uid=0, inode=1, identity=1,
    )  # fmt: skip


def seen(*sockets: Session) -> Report:
    return Report(hosts.LINUX, "2026-11-21T05:00:00Z", Verdict(Status.OK, "x"), sessions=sockets)


BLIND = replace(
    seen(),
    checks=(Check("sessions.visible", Link.SESSION, Status.UNKNOWN, "unknown (needs CAP_NET_ADMIN)", "not shown"),),
)


def judged(files: tuple[File, ...], *looks: Look, sessions: Report | None = None, **more: Any) -> Report:
    facts = Facts(
        more.pop("order", Order()),
        Attempt.ran(Scan(looks, files, **more.pop("scan", {}))),
        more.pop("answers", {LIBSSL: Attempt.ran(ANSWER)}),
        more.pop("owners", {LIBSSL: "libssl3:amd64"}),
        more.pop("gnutls", Attempt.ran(gnutlsconf.Setting(Tri.NO))),
    )
    report = libraries.report(hosts.LINUX, facts, sessions or seen())
    VALIDATOR.validate(json.loads(jsondoc.render(report)))
    return report


def process(report: Report, pid: int = 1) -> TlsProcess:
    (found,) = [p for p in report.processes or () if p.pid == pid]
    return found


def ids(report: Report) -> list[tuple[str, Status]]:
    return [(check.id, check.status) for check in report.checks]


def test_a_process_with_such_sockets_has_kernel_tls_now() -> None:
    report = judged((SYSTEM_FILE,), look(1, 0), look(2, 0), sessions=seen(socket_of(1), socket_of(1), socket_of(9)))
    assert (process(report).ktls, process(report).sockets) == (Reach.NOW, 2)
    assert (process(report, 2).ktls, process(report, 2).sockets) == (Reach.COULD, 0)
    assert "off by default" in process(report, 2).reason
    assert report.verdict == Verdict(Status.OK, "2 processes have a TLS library: 1 has kernel TLS now, 1 could have it")


def test_a_socket_that_was_refused_is_not_kernel_tls() -> None:
    report = judged((SYSTEM_FILE,), look(1, 0), sessions=seen(socket_of(1, armed=Armed.REFUSED)))
    assert process(report).ktls is Reach.COULD


def test_what_the_library_itself_says_comes_before_what_its_file_shows() -> None:
    (library,) = judged((SYSTEM_FILE,), look(1, 0)).libraries
    assert (library.path, library.version, library.package) == (LIBSSL, ANSWER.version, "libssl3:amd64")
    assert (library.family, library.static, library.deleted, library.build_id) == ("OpenSSL", False, False, "aa")
    assert library.proof.startswith("loopback handshakes")
    damaged = {LIBSSL: Attempt.ran(Answer(Fault.LOAD, "no"))}
    (library,) = judged((SYSTEM_FILE,), look(1, 0), answers=damaged).libraries
    assert library.built_with_ktls is Tri.YES
    assert library.proof == "it imports sendfile; the file was read, not run"


def test_a_library_whose_configuration_asks_for_it_could_without_the_programs_doing() -> None:
    asked = {LIBSSL: Attempt.ran(replace(ANSWER, option=True))}
    report = judged((SYSTEM_FILE,), look(1, 0), answers=asked)
    assert process(report).reason == "/usr/lib/ssl/openssl.cnf asks for it in every new session"


def test_a_wheels_private_library_never_can_and_its_version_is_that_of_its_own_libcrypto() -> None:
    report = judged((PRIVATE_FILE, PRIVATE_CRYPTO, SYSTEM_CRYPTO), look(1, 0, 1, 2))
    (library,) = report.libraries
    assert (library.version, library.package, library.origin) == (
        "OpenSSL 3.5.8 25 Aug 2026", "psycopg2_binary", "wheel",
    )  # fmt: skip
    assert (process(report).ktls, process(report).reason) == (Reach.NEVER, "OpenSSL 3.5.8: it was built without kTLS")


def test_one_able_library_is_enough_and_an_unknown_one_outweighs_those_that_cannot() -> None:
    files = (SYSTEM_FILE, PRIVATE_FILE, File("/usr/bin/node", "k", False, content=content(STATIC, program=True)))
    report = judged(files, look(1, 0, 1), look(2, 1, 2), look(3, 1), look(4, 0, 2))
    assert [process(report, pid).ktls for pid in (1, 2, 3, 4)] == [
        Reach.COULD, Reach.UNKNOWN, Reach.NEVER, Reach.COULD,
    ]  # fmt: skip
    assert "linked into this program" in process(report, 2).reason
    # what cannot be known by anybody is no fault of this run
    assert report.verdict.status is Status.OK


@pytest.mark.parametrize("family", Family)
def test_every_family_says_why_it_never_can_or_what_it_takes(family: Family) -> None:
    for ktls in Tri:
        said = Implementation(family, False, "", ktls, "why")
        report = judged((File("/x/lib", "k", False, content=content(said)),), look(1, 0))
        assert process(report).ktls is {Tri.YES: Reach.COULD, Tri.NO: Reach.NEVER, Tri.UNKNOWN: Reach.UNKNOWN}[ktls]
        assert process(report).reason
        assert family.value in libraries_text.render(report)


def test_gnutls_could_only_where_its_configuration_says_so() -> None:
    said = Implementation(Family.GNUTLS, False, "GnuTLS 3.8.9", Tri.YES, "it imports sendfile")
    file = File("/usr/lib/libgnutls.so.30", "k", False, content=content(said), here=True)
    assert "only with `ktls = true`" in process(judged((file,), look(1, 0))).reason
    for setting, words in (
        (gnutlsconf.Setting(Tri.YES), "/etc/gnutls/config asks for it in every"),
        (gnutlsconf.Setting(Tri.YES, gnutlsconf.POLICY), f"{gnutlsconf.POLICY} asks for it in every"),
        (gnutlsconf.Setting(Tri.NO, gnutlsconf.POLICY), f"{gnutlsconf.LOCAL}, then update-crypto-policies"),
        (gnutlsconf.Setting(Tri.UNKNOWN, gnutlsconf.POLICY), f"{gnutlsconf.PATH} and {gnutlsconf.POLICY} differ"),
    ):
        report = judged((file,), look(1, 0), gnutls=Attempt.ran(setting))
        assert words in process(report).reason
        assert (report.libraries[0].enabled_by_default, report.libraries[0].config_file) == (setting.on, setting.file)


def test_a_containers_file_of_the_same_path_has_no_package_of_this_host() -> None:
    theirs = replace(SYSTEM_FILE, key="00:9:1", own="", here=False)
    replaced = replace(theirs, deleted=True, replaced=True)
    report = judged((SYSTEM_FILE, theirs, replaced), look(1, 0), look(2, 1), look(3, 2))
    assert [library.package for library in report.libraries] == ["libssl3:amd64", "", ""]


@pytest.mark.parametrize(("count", "words"), [(1, "1 has"), (11, "11 have"), (21, "21 have")])
def test_eleven_have_and_one_has(count: int, words: str) -> None:
    numbers = range(1, count + 1)
    report = judged((SYSTEM_FILE,), *(look(n, 0) for n in numbers), sessions=seen(*(socket_of(n) for n in numbers)))
    assert f"a TLS library: {words} kernel TLS now" in report.verdict.summary


def test_the_copies_of_one_image_are_one_library_but_not_with_the_hosts_own() -> None:
    copies = tuple(replace(SYSTEM_FILE, key=f"00:{n}:1", own="", here=False) for n in (1, 2))
    report = judged((SYSTEM_FILE, *copies), look(1, 0), look(2, 1), look(3, 2))
    assert [process(report, pid).libraries for pid in (1, 2, 3)] == [(0,), (1,), (1,)]
    assert "not run" in report.libraries[1].proof


def test_a_library_that_was_replaced_on_disk_is_a_warning_with_its_processes() -> None:
    old = replace(SYSTEM_FILE, deleted=True, replaced=True, own="", here=False, replaced_here=True)
    report = judged((old, SYSTEM_FILE), look(1, 0), look(2, 1))
    assert ("libraries.replaced", Status.WARNING) in ids(report)
    assert (report.verdict.status, report.verdict.first_broken) == (Status.WARNING, "libraries.replaced")
    assert report.libraries[0].deleted
    assert report.libraries[0].package == "libssl3:amd64"
    assert "nginx (1)" in report.verdict.summary


def test_what_could_not_be_looked_into_is_counted_and_makes_the_verdict_unknown() -> None:
    denied = Look(7, "sshd", Sight.DENIED, "Permission denied")
    unread = File("/usr/lib/libssl.so.3", "k", True, reason="Operation not permitted")
    report = judged((SYSTEM_FILE, unread), look(1, 0), look(2, 1), denied)
    assert report.verdict.status is Status.UNKNOWN
    assert report.verdict.first_broken is None
    (check,) = [c for c in report.checks if c.id == "libraries.seen"]
    assert "process 7 (sshd) not for this user" in check.reason
    assert "/usr/lib/libssl.so.3 (Operation not permitted)" in check.reason
    # its name says libssl, which proves nothing
    assert process(report, 2).ktls is Reach.UNKNOWN


def test_a_file_that_cannot_be_read_and_is_not_called_like_one_is_no_library() -> None:
    report = judged((File("/usr/lib/libm.so.6", "k", False, reason="no"),), look(1, 0))
    assert (report.processes, report.libraries) == ((), ())


def test_sockets_that_were_not_seen_are_unknown_but_a_library_without_kernel_tls_still_never_can() -> None:
    report = judged((SYSTEM_FILE, PRIVATE_FILE), look(1, 0), look(2, 1), sessions=BLIND)
    assert (process(report).sockets, process(report, 2).ktls) == (None, Reach.NEVER)
    (check,) = [c for c in report.checks if c.id == "libraries.sockets"]
    assert "nginx (1) has kernel TLS now was not seen" in check.summary
    assert "CAP_NET_ADMIN" in check.reason
    only_never = judged((PRIVATE_FILE,), look(2, 0), sessions=BLIND)
    assert only_never.verdict.status is Status.OK


def test_a_namespace_that_could_not_be_entered_blinds_only_for_the_processes_in_it() -> None:
    facts = Facts(
        Order(),
        Attempt.ran(
            Scan((look(1, 0, network="net:[1]"), look(2, 0, network="net:[2]")), (SYSTEM_FILE,), network="net:[1]")
        ),
        {LIBSSL: Attempt.ran(ANSWER)},
    )
    assert facts.elsewhere
    report = libraries.report(hosts.LINUX, facts, seen(), BLIND)
    assert [(p.pid, p.sockets) for p in report.processes or ()] == [(1, 0), (2, None)]
    # and one that was not even found does not concern those that were looked into
    unfound = replace(BLIND, checks=(replace(BLIND.checks[0], id="sessions.namespaces"),))
    report = libraries.report(hosts.LINUX, facts, seen(), replace(unfound, sessions=(socket_of(2),)))
    assert [(p.pid, p.sockets) for p in report.processes or ()] == [(1, 0), (2, 1)]


def test_statically_linked_programs_without_a_sign_are_named_and_not_taken_for_harmless() -> None:
    report = judged((File("/bin/x", "k", False, content=content(program=True, alone=True)),), look(1, 0, name="x"))
    (check,) = [c for c in report.checks if c.id == "libraries.static"]
    assert (check.status, check.evidence["processes"]) == (Status.SKIP, ("x (1)",))
    assert "proves nothing" in check.reason


def test_a_process_that_was_asked_for_and_is_not_there_is_an_error() -> None:
    gone = Look(9, "", Sight.GONE, "it has ended")
    report = judged((), gone, order=Order((9,)))
    assert report.errors == ("there is no process 9; ps -e lists those that there are",)
    assert report.verdict.status is Status.UNKNOWN
    assert judged((), order=Order(names=("nginx",))).errors
    assert judged((), order=Order(names=("nginx",)), scan={"clear": 1}).errors == ()
    hidden = Look(8, "worker", Sight.DENIED, "Permission denied")
    report = judged((), hidden, order=Order(names=("nginx",)))
    assert (report.errors, report.verdict.status) == ((), Status.UNKNOWN)
    # one that ended while all were looked into is nothing to speak of
    assert judged((), gone, scan={"clear": 1}).verdict.status is Status.OK


def test_a_look_at_kernel_threads_only_is_not_taken_for_an_answer() -> None:
    report = judged((), scan={"empty": 1}, order=Order((2,)))
    assert (report.verdict.status, report.errors) == (Status.UNKNOWN, ())
    assert "kernel threads" in report.checks[0].reason


def test_a_scan_that_gave_no_answer_is_unknown() -> None:
    facts = Facts(Order(), Attempt(Outcome.TIMEOUT, reason="no answer within 90 s"))
    report = libraries.report(hosts.LINUX, facts, seen())
    assert (report.verdict.status, ids(report)) == (Status.UNKNOWN, [("libraries.seen", Status.UNKNOWN)])


def test_the_command_line_says_of_a_running_program_what_its_library_says() -> None:
    with running(load(SYSTEM)) as pid:
        result = CliRunner().invoke(cli, ["libraries", "--json", "--pid", str(pid)])
    found = json.loads(result.stdout)
    VALIDATOR.validate(found)
    (carried,) = [found["libraries"][i] for i in found["processes"][0]["libraries"]]
    assert (carried["path"], carried["built_with_ktls"]) == (SYSTEM, "yes")
    assert carried["proof"].startswith("loopback handshakes")
    assert (found["processes"][0]["pid"], found["processes"][0]["ktls"]) == (pid, "could")


@pytest.mark.parametrize("arguments", [["--pid", "0"], ["--pid", "x"], ["-q", "-v"], ["--format", "tap"], ["nginx"]])
def test_nonsense_is_refused(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, ["libraries", *arguments])
    assert (result.exit_code, "Error: " in result.output) == (2, True)


# ---- text


def workers() -> Report:
    files = (SYSTEM_FILE, PRIVATE_FILE, File("/usr/bin/node", "k", False, content=content(STATIC, program=True)))
    many = [look(800 + n, 0) for n in range(9)]
    return judged(
        files, *many, look(2, 0, 1, name="python3"), look(3, 2, name="a-program-with-a"), sessions=seen(socket_of(801))
    )


@pytest.mark.parametrize("mode", [{}, {"quiet": True}, {"verbose": True}], ids=str)
def test_the_text_fits_80_columns(mode: dict[str, bool]) -> None:
    lines = libraries_text.render(workers(), **mode).splitlines()
    assert [line for line in lines if len(line) > 80 or line != line.rstrip()] == []


def test_the_text_names_each_library_once_with_its_processes() -> None:
    text = libraries_text.render(workers())
    assert text.count(f"  {LIBSSL}\n") == 1
    assert "can do kTLS - OpenSSL 3.0.22 (libssl3:amd64)\n" in text
    assert "800 802 803 804 and 4 more  could:" in text
    assert "801                         now: 1 socket\n" in text
    assert "no kTLS - OpenSSL (psycopg2_binary)\n" in text
    assert "unknown - OpenSSL 3.0.19 (linked in)\n" in text


def test_the_worst_strings_play_no_tricks_in_the_text_and_make_a_valid_document() -> None:
    nasty = reports.NASTY
    file = File(nasty, nasty, True, content=content(replace(YES, version=nasty, proof=nasty), build_id=nasty))
    report = judged((file,), replace(look(1, 0), name=nasty, program=nasty), scan={"network": nasty})
    text = libraries_text.render(report, verbose=True)
    assert all(line.isprintable() for line in text.splitlines())


# ---- packages and GnuTLS's configuration


def test_dpkgs_answer_counts_for_the_path_with_and_without_usr() -> None:
    wanted = ("/usr/lib/libssl.so.3", "/usr/lib/libgnutls.so.30", "/opt/x")
    asked = ("dpkg-query", "-S", *(p for path in wanted for p in dict.fromkeys((path, path.removeprefix("/usr")))))
    said = "diversion by dash from: /bin/sh\nlibssl3:amd64: /lib/libssl.so.3\na:amd64, b: /usr/lib/libgnutls.so.30\n"
    host = hosts.captured(answers={("run", json.dumps(asked)): {"status": 1, "stdout": said, "stderr": "no path"}})
    assert packages.owners(host, wanted) == {
        "/usr/lib/libssl.so.3": "libssl3:amd64",
        "/usr/lib/libgnutls.so.30": "a:amd64",
    }
    assert packages.owners(hosts.captured(), wanted) == {}


def test_rpm_apk_and_pkg_are_asked_where_they_are() -> None:
    path = "/usr/lib64/libssl.so.3"
    rpm = ("rpm", "-qf", "--qf", "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\\n", path, "/opt/x")
    out = "openssl-libs-3.5.1-2.el10.x86_64\nfile /opt/x is not owned by any package\n"
    host = hosts.captured(answers={("run", json.dumps(rpm)): {"status": 1, "stdout": out, "stderr": ""}})
    assert packages.owners(host, (path, "/opt/x")) == {path: "openssl-libs-3.5.1-2.el10.x86_64"}
    apk = ("apk", "info", "-W", path)
    out = f"{path} is owned by libssl3-3.1.4-r5\n"
    host = hosts.captured(answers={("run", json.dumps(apk)): {"status": 0, "stdout": out, "stderr": ""}})
    assert packages.owners(host, (path,)) == {path: "libssl3-3.1.4-r5"}
    pkg = ("pkg", "which", "-q", path)
    ran = Ran(0, "openssl35-3.5.4\n", "")
    host = hosts.captured(
        answers={("run", json.dumps(pkg)): {"status": 0, "stdout": ran.stdout, "stderr": ""}}, about=hosts.FREEBSD
    )
    assert packages.owners(host, (path, "relative")) == {path: "openssl35-3.5.4"}


@given(st.text(max_size=80))
def test_any_answer_of_a_package_manager_is_read(text: str) -> None:
    packages.parse_dpkg(text)
    packages.parse_apk(text)
    packages.parse_rpm(text, ("/a", "/b"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[global]\nktls = true\n", True),
        ("# c\n[ Global ]\nKTLS=True # why\n", True),
        ("ktls = true\n", False),
        ("[overrides]\nktls = true\n", False),
        ("[global]\nktls = true\nktls = false\n", False),
        ("[global]\n# ktls = true\n", False),
    ],
)
def test_gnutls_is_switched_on_in_its_global_section_only(text: str, expected: bool) -> None:
    assert gnutlsconf.parse(text.encode()) is expected
    found = gnutlsconf.read(hosts.captured({gnutlsconf.PATH: text.encode()})).value
    assert found == gnutlsconf.Setting(Tri.YES if expected else Tri.NO)


def test_without_the_file_gnutls_has_it_off() -> None:
    assert gnutlsconf.read(hosts.captured()).value == gnutlsconf.Setting(Tri.NO)


ON, OFF = b"[global]\nktls = true\n", b"[overrides]\n"


@pytest.mark.parametrize(
    ("policy", "default", "expected"),
    [(ON, None, Tri.YES), (OFF, None, Tri.NO), (ON, ON, Tri.YES), (OFF, ON, Tri.UNKNOWN), (ON, OFF, Tri.UNKNOWN)],
)
def test_where_there_are_crypto_policies_gnutls_has_what_they_say_unless_the_other_file_differs(
    policy: bytes, default: bytes | None, expected: Tri
) -> None:
    files = {gnutlsconf.POLICY: policy, **({} if default is None else {gnutlsconf.PATH: default})}
    assert gnutlsconf.read(hosts.captured(files)).value == gnutlsconf.Setting(expected, gnutlsconf.POLICY)


def test_a_gnutls_configuration_that_may_not_be_read_is_not_off() -> None:
    denied: Attempt[Any] = Attempt(Outcome.DENIED, reason="Permission denied")
    for path in (gnutlsconf.PATH, gnutlsconf.POLICY):
        assert gnutlsconf.read(hosts.captured(answers={("read", path): denied})).outcome is Outcome.DENIED


@given(st.binary(max_size=80))
def test_any_gnutls_configuration_is_read(content: bytes) -> None:
    gnutlsconf.parse(content)
