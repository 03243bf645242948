# SPDX-License-Identifier: BSD-2-Clause
"""The library's column: real libraries asked in real children, files that are none, and the judging of every answer."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl import libssl, libsslfile, openssl
from ktlsctl.child import Probe, Running
from ktlsctl.ciphers import SUITES
from ktlsctl.codec import decode, encode
from ktlsctl.facts.answers import Answer, Asked, Facts, Fault, SuiteAnswer
from ktlsctl.host import CapturedHost, LiveHost, RecordingHost
from ktlsctl.model import About, Attempt, Cell, Check, Library, LibraryReport, Os, Outcome, Status, TlsVersion, Tri
from tests.libssls import SYSTEM, compiled, freebsd_suites, freebsd_system, from_wheel, suites, table

LINUX = About(Os.LINUX, "6.1.0", "x86_64", False, "Debian GNU/Linux 12 (bookworm)")
FREEBSD = About(Os.FREEBSD, "14.3-RELEASE", "amd64", False)


def ask(path: str, timeout: float = 20.0, **environment: str) -> Answer:
    """The answer of a real child."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        said = Running(Probe("ktlsctl.libsslprobe:probe", {"path": path}, timeout)).answer()
    assert said.value is not None, said.reason
    return decode(Answer, said.value)


def report(host: Any, *named: str, timeout: float = 20.0) -> LibraryReport:
    return openssl.judge(openssl.begin(host, named, timeout).facts(), host.about)


def check(of: LibraryReport, identity: str) -> Check:
    return next(c for c in of.checks if c.id == identity)


@pytest.fixture(scope="session")
def system() -> Answer:
    return ask(SYSTEM)


# ---- real libraries


def test_the_child_asks_for_every_suite_of_the_tables() -> None:
    assert tuple((s.version.value, s.name) for s in SUITES) == libssl.SUITES


def test_the_systems_libssl_asks_for_exactly_what_was_measured_of_its_release(system: Answer) -> None:
    major, minor = system.version.split()[1].split(".")[:2]
    asked = {
        (s.version.value, suite.cipher): ((s.server.tx, s.client.tx), (s.server.rx, s.client.rx))
        for s in system.suites
        for suite in SUITES
        if suite.name == s.suite
    }
    expected = {
        cell: ((int(tx), int(tx)), (int(rx), int(rx))) for cell, (tx, rx) in table((int(major), int(minor))).items()
    }
    assert asked == expected


def test_the_systems_libssl_tells_its_libcrypto_and_its_configuration(system: Answer) -> None:
    said = subprocess.run(["openssl", "version", "-a"], capture_output=True, text=True, check=True).stdout
    assert said.startswith(system.version)
    assert f'OPENSSLDIR: "{system.directory}"' in said
    assert system.config_file == f"{system.directory}/openssl.cnf"
    assert os.path.dirname(system.libcrypto) == os.path.dirname(SYSTEM)
    assert (system.fault, system.option, system.unprompted) == (None, False, False)


@pytest.mark.parametrize("wheel", ["psycopg2-binary", "mysql-connector-python"])
def test_the_private_libssl_of_a_wheel_is_built_without_ktls_and_uses_its_own_libcrypto(wheel: str) -> None:
    path = from_wheel(wheel)
    said = report(LiveHost(), path)
    assert said.subject is not None
    library = said.libraries[said.subject]
    assert (library.path, library.origin, library.roles) == (os.path.realpath(path), library.origin, ("named",))
    assert library.built_with_ktls is Tri.NO
    assert library.proof.startswith("loopback handshakes")
    assert os.path.dirname(library.libcrypto) == os.path.dirname(library.path)
    assert not any(Status.OK in (cell.tx.status, cell.rx.status) for cell in library.cells)
    build = check(said, "openssl.build")
    assert build.status is Status.CRITICAL
    assert SYSTEM in build.remedy[0].text
    assert said.errors == ()


def test_the_probe_opens_no_socket_and_connects_to_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    code = f"from ktlsctl import libsslprobe; assert libsslprobe.probe({{'path': {SYSTEM!r}}})['suites']"
    subprocess.run(
        ["strace", "-f", "-o", trace, "-e", "trace=%network,openat", sys.executable, "-c", code],
        check=True,
        capture_output=True,
    )
    text = trace.read_text()
    assert SYSTEM in text
    assert not [line for line in text.splitlines() if "socket" in line or "setsockopt" in line]


def test_the_child_starts_without_what_would_cost_more_than_the_handshakes() -> None:
    program = "import sys, ktlsctl.libsslprobe as m; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not set(done.stdout.split()) & {"dataclasses", "enum", "re", "typing", "json", "ssl", "socket", "subprocess"}


def test_a_copy_of_the_library_uses_the_libcrypto_beside_it(tmp_path: Path, system: Answer) -> None:
    for file in (SYSTEM, system.libcrypto):
        shutil.copy(file, tmp_path / Path(file).name.replace(".so.3.0.0", ".so.3"))
    said = ask(str(tmp_path / Path(SYSTEM).name))
    assert said.libcrypto == str(tmp_path / Path(system.libcrypto).name)
    assert said.suites == system.suites


def test_without_a_libcrypto_beside_it_the_one_that_the_linker_gives_is_named(tmp_path: Path, system: Answer) -> None:
    shutil.copy(SYSTEM, tmp_path / "libssl.so.3")
    assert ask(str(tmp_path / "libssl.so.3")).libcrypto == system.libcrypto


def test_what_only_its_own_folder_has_is_loaded_for_it_as_a_wheels_module_would(tmp_path: Path) -> None:
    deep, dep = "libktlsctl-deep.so.1", "libktlsctl-dep.so.1"
    link = (f"-L{tmp_path}", "-Wl,--no-as-needed")
    compiled(tmp_path, "int deep(void) { return 1; }\n", f"-Wl,-soname,{deep}", name=deep)
    compiled(tmp_path, "int dep(void) { return 1; }\n", *link, f"-l:{deep}", f"-Wl,-soname,{dep}", name=dep)
    path = compiled(tmp_path, "int nothing;\n", *link, f"-l:{dep}")
    assert ask(path).fault is Fault.NOT_LIBSSL
    os.unlink(tmp_path / deep)
    said = ask(path)
    assert (said.fault, deep in said.detail) == (Fault.LOAD, True)


def test_another_libcrypto_that_is_there_already_is_not_taken_for_the_librarys_own(system: Answer) -> None:
    said = ask(SYSTEM, LD_PRELOAD=system.libcrypto)
    assert (said.fault, said.detail, said.version) == (Fault.CONFLICT, system.libcrypto, "")


def test_an_interpreter_that_exports_openssls_names_does_not_answer_for_the_library(
    tmp_path: Path, system: Answer
) -> None:
    source = 'const char *OpenSSL_version(int t) { return "impostor"; }\nvoid *SSL_CTX_new(void *m) { return 0; }\n'
    impostor = compiled(tmp_path, source, name="impostor.so")
    said = ask(SYSTEM, LD_PRELOAD=impostor)
    assert (said.version, said.suites) == (system.version, system.suites)


def test_the_effective_configuration_is_asked_of_a_fresh_context(tmp_path: Path) -> None:
    file = tmp_path / "openssl.cnf"
    file.write_text("openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nOptions = KTLS\n")
    said = ask(SYSTEM, OPENSSL_CONF=str(file))
    assert (said.option, said.unprompted, said.config_file) == (True, True, str(file))
    assert ask(SYSTEM, OPENSSL_CONF="/dev/null").option is False


def test_a_configuration_that_lets_no_context_be_made_is_a_finding(tmp_path: Path) -> None:
    file = tmp_path / "openssl.cnf"
    # the base provider alone has no ciphers
    file.write_text("openssl_conf = a\n[a]\nproviders = b\n[b]\nbase = c\n[c]\nactivate = 1\n")
    said = ask(SYSTEM, OPENSSL_CONF=str(file))
    assert (said.fault, said.suites) == (Fault.CONFIGURATION, ())
    assert said.detail
    assert said.version.startswith("OpenSSL ")
    judged = debian(said).report()
    assert str(file) in check(judged, "openssl.build").reason
    config = check(judged, "openssl.config")
    assert (config.status, config.remedy[0].text) == (Status.CRITICAL, f"correct {file}; config(5ssl) describes it")
    assert subject(judged).enabled_by_default is Tri.UNKNOWN


def test_a_configuration_that_forbids_suites_changes_nothing_of_the_answer(tmp_path: Path, system: Answer) -> None:
    file = tmp_path / "openssl.cnf"
    file.write_text(
        "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n"
        "MinProtocol = TLSv1.3\nCiphersuites = TLS_AES_256_GCM_SHA384\n"
    )
    assert ask(SYSTEM, OPENSSL_CONF=str(file)).suites == system.suites


def test_the_libssl_of_the_running_python_and_of_pyopenssl_are_in_the_report() -> None:
    said = report(LiveHost())
    python = next(x for x in said.libraries if "python" in x.roles)
    version = subprocess.run(
        [sys.executable, "-c", "import ssl; print(ssl.OPENSSL_VERSION)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert python.version == version
    witness = next(x for x in said.libraries if "pyopenssl" in x.roles)
    version = subprocess.run(
        [sys.executable, "-c", "from OpenSSL import SSL; print(SSL.OpenSSL_version(0).decode())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert witness.version == version
    if "wheel" in witness.origin:
        assert (witness.built_with_ktls, witness.status) == (Tri.NO, Status.SKIP)
        assert witness.proof == "strings in the file, not a handshake"


def test_the_strings_of_a_file_with_the_record_layer_linked_into_it_are_found(tmp_path: Path) -> None:
    file = tmp_path / "x.so"
    pad = b"\0" * ((1 << 20) - 70)
    # both across the border of two pieces
    file.write_bytes(
        b"OpenSSL \0OpenSSL 3 is here\0" + pad + b"\0OpenSSL 3.5.4 30 Sep 2025\0" + pad + b"ssl/ktls_meth.c\0"
    )
    assert libsslfile.signs(str(file)) == ("OpenSSL 3.5.4 30 Sep 2025", True)
    file.write_bytes(b"\0ktls_reset\0OpenSSL 3.0.13 30 Jan 2024")
    assert libsslfile.signs(str(file)) == ("", False)


# ---- files that are none


MACHINES = {"x86_64": (62, 183), "aarch64": (183, 62)}


def broken(kind: str, folder: Path) -> str:
    """The path of a file that is no usable libssl."""
    path = folder / "libssl.so.3"
    own = Path(SYSTEM).read_bytes()
    if kind == "text":
        path.write_text("/* GNU ld script */\nGROUP ( libssl.so.3 )\n")
    elif kind == "empty":
        path.touch()
    elif kind == "directory":
        path.mkdir()
    elif kind == "unreadable":
        os.mkfifo(path)
    elif kind == "not_elf":
        path.write_bytes(b"\0\1\2\3" * 100)
    elif kind == "damaged":
        path.write_bytes(own[:200])
    elif kind == "foreign":
        # a 32-bit file of 386, header only
        path.write_bytes(
            b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack("<HHIIIIIHHHHHH", 3, 3, 1, 0, 52, 0, 0, 52, 32, 0, 40, 0, 0)
        )
    elif kind == "foreign machine":
        path.write_bytes(own[:18] + struct.pack("<H", 22) + own[20:])
    elif kind == "not_shared":
        (folder / "a.c").write_text("int main(void) { return 0; }\n")
        subprocess.run(["gcc", "-no-pie", "-o", path, folder / "a.c"], check=True)
    elif kind == "libcrypto":
        shutil.copy(next(Path(SYSTEM).parent.glob("libcrypto.so.3")), path)
    elif kind == "renamed libcrypto":
        compiled(folder, "void EVP_PKEY_free(void *k) {}\n")
    elif kind == "not_libssl":
        compiled(folder, "int nothing;\n")
    elif kind == "too_old":
        compiled(folder, "void SSL_CTX_new(void *m) {}\n")
    elif kind == "symbols":
        compiled(
            folder,
            'const char *OpenSSL_version(int t) { return "BoringSSL"; }\n'
            "int OPENSSL_init_ssl(long o, void *s) { return 1; }\nvoid SSL_CTX_new(void *m) {}\n",
        )
    elif kind == "load":
        compiled(folder, "extern void nowhere(void);\nvoid f(void) { nowhere(); }\n", "-Wl,-z,now")
    return str(path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "there is no such file"),
        ("text", "a text file"),
        ("empty", "an empty file"),
        ("directory", "a directory"),
        ("unreadable", "not a regular file"),
        ("not_elf", "no ELF file"),
        ("damaged", "damaged"),
        ("foreign", "32-bit x86, this Python is"),
        ("foreign machine", "64-bit S/390"),
        ("not_shared", "no shared library"),
        ("libcrypto", "a libcrypto"),
        ("renamed libcrypto", "a libcrypto"),
        ("not_libssl", "no SSL_CTX_new"),
        ("load", "nowhere"),
    ],
)
def test_a_named_file_that_is_no_libssl_says_what_it_is_and_the_rest_stands(
    kind: str, words: str, tmp_path: Path
) -> None:
    path = broken(kind, tmp_path)
    said = report(LiveHost(), path)
    named = said.libraries[0]
    assert (named.path, named.status, named.roles) == (path, Status.UNKNOWN, ("named",))
    assert words in named.reason
    assert ";" in named.reason, "a next step"
    assert said.errors == (f"{path}: {named.reason}",)
    assert said.subject is not None
    assert said.libraries[said.subject].path == SYSTEM
    assert check(said, "openssl.build").status is Status.OK


def test_a_file_that_this_user_may_not_read_is_denied_and_not_missing() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = os.path.join(folder, "libssl.so.3")
        shutil.copy(SYSTEM, path)
        libsslfile.examine(path)  # imports what it needs while it may
        os.chmod(path, 0)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if os.geteuid() == 0:  # root may read everything: be nobody
                    os.setresgid(65534, 65534, 65534)
                    os.setresuid(65534, 65534, 65534)
                libsslfile.examine(path)
            except libsslfile.Unusable as error:
                status = 0 if error.fault == Fault.DENIED.value else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("*(volatile int *)0 = 1;", "died of SIGSEGV"),
        ("__builtin_trap();", "died of SIG"),
        ("_exit(0);", "ended with status 0 and no answer"),
        ("for (;;) pause();", "no answer within 1 s"),
    ],
)
def test_a_library_that_crashes_ends_or_hangs_the_process_that_loads_it_is_a_finding(
    body: str, words: str, tmp_path: Path
) -> None:
    source = f"#include <unistd.h>\n__attribute__((constructor)) static void start(void) {{ {body} }}\n"
    path = compiled(tmp_path, source)
    facts = openssl.begin(LiveHost(), (path,), 1.0).facts()
    named = openssl.judge(facts, LINUX).libraries[0]
    assert named.status is Status.UNKNOWN
    assert words in named.reason


def test_what_a_library_prints_while_it_is_loaded_does_not_spoil_the_answer(tmp_path: Path) -> None:
    source = (
        '#include <stdio.h>\n__attribute__((constructor)) static void start(void) { puts("{}"); fflush(stdout); }\n'
    )
    assert ask(compiled(tmp_path, source)).fault is Fault.NOT_LIBSSL


def test_a_library_from_before_1_1_0_has_no_ktls_and_is_not_asked(tmp_path: Path) -> None:
    named = report(LiveHost(), broken("too_old", tmp_path)).libraries[0]
    assert (named.built_with_ktls, named.status) == (Tri.NO, Status.SKIP)


def test_a_boringssl_that_lacks_functions_has_no_ktls(tmp_path: Path) -> None:
    named = report(LiveHost(), broken("symbols", tmp_path)).libraries[0]
    assert (named.version, named.built_with_ktls, named.proof) == (
        "BoringSSL",
        Tri.NO,
        "its version text says BoringSSL, not a handshake",
    )


def test_the_same_file_under_two_names_is_one_library(tmp_path: Path) -> None:
    link = tmp_path / "libssl.so"
    link.symlink_to(SYSTEM)
    said = report(LiveHost(), str(link), SYSTEM)
    assert [x.path for x in said.libraries].count(SYSTEM) == 1
    assert said.libraries[0].roles[:2] == ("named", "system")
    assert said.libraries[0].package or not shutil.which("dpkg")


def test_a_recorded_host_is_judged_as_the_live_one() -> None:
    recorder = RecordingHost(LiveHost())
    live = report(recorder)
    replayed = CapturedHost.parse(json.dumps(recorder.document("2026-01-01T00:00:00Z")).encode())
    assert report(replayed) == live


def test_a_recording_of_the_libraries_is_small_and_holds_no_listing_of_the_host() -> None:
    recorder = RecordingHost(LiveHost())
    report(recorder)
    text = json.dumps(recorder.document("2026-01-01T00:00:00Z"))
    assert "libssl.so" in text
    assert "libc.so" not in text
    assert len(text) < 64 * 1024


# ---- judging


def answer(version: str, release: tuple[int, int] | None = (3, 0), **more: Any) -> Answer:
    return Answer(
        version=version,
        libcrypto="/lib/libcrypto.so.3",
        directory="/usr/lib/ssl",
        suites=suites(release),
        **{"config_file": "/usr/lib/ssl/openssl.cnf", **more},
    )


DEBIAN12 = answer("OpenSSL 3.0.22 7 Apr 2026")
DEBIAN13 = answer("OpenSSL 3.5.7 9 Jun 2026", (3, 5))
LIB = "/usr/lib/x86_64-linux-gnu"
ON = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nOptions = KTLS\n"


class Machine:
    """A captured host with the libraries given to it, and whatever files a test adds."""

    def __init__(self, about: About = LINUX) -> None:
        self._about = about
        self._answers: dict[tuple[str, str], Attempt[Any]] = {}
        self._folders: dict[str, list[str]] = {}
        self.python()

    def has(self, path: str, said: Answer | Attempt[Any] | None = None) -> Machine:
        directory, _, name = path.rpartition("/")
        self._folders.setdefault(directory, []).append(name)
        self._answers["resolve", path] = Attempt.ran(path)
        if said is not None:
            attempt = Attempt.ran(encode(said)) if isinstance(said, Answer) else said
            self._answers["probe", f"ktlsctl.libsslprobe:probe {json.dumps({'path': path})}"] = attempt
        return self

    def python(self, **said: Any) -> Machine:
        self._answers["probe", "ktlsctl.libsslprobe:python {}"] = Attempt.ran({"absent": "no _ssl", **said})
        return self

    def file(self, path: str, content: str) -> Machine:
        self._answers["read", path] = Attempt.ran(content.encode())
        return self

    def facts(self, *named: str) -> Facts:
        for directory, names in self._folders.items():
            self._answers["resolve", directory] = Attempt.ran(directory)
            self._answers["names", directory] = Attempt.ran(sorted(names))
        self._answers["names", "/usr/lib"] = Attempt.ran(
            ["postgresql", "x86_64-linux-gnu", *self._folders.get("/usr/lib", ())]
        )
        host = CapturedHost(self._about, self._answers, Outcome.ABSENT)
        return openssl.begin(host, named).facts()

    def report(self, *named: str) -> LibraryReport:
        return openssl.judge(self.facts(*named), self._about)


def bound(path: str, **more: Any) -> dict[str, Any]:
    return {"file": "/usr/lib/python3/_ssl.so", "libssl": path, "version": "", "strings": False, **more}


def debian(said: Answer = DEBIAN12) -> Machine:
    return Machine().has(f"{LIB}/libssl.so.3", said).python(ssl=bound(f"{LIB}/libssl.so.3"))


def subject(of: LibraryReport) -> Library:
    assert of.subject is not None
    return of.libraries[of.subject]


@pytest.mark.parametrize("said", [DEBIAN12, DEBIAN13], ids=["3.0", "3.5"])
def test_a_stock_debian_is_ok_in_every_check(said: Answer) -> None:
    judged = debian(said).report()
    assert {c.status for c in judged.checks} == {Status.OK}
    assert [c.id for c in judged.checks] == [
        "openssl.found",
        "openssl.build",
        "openssl.matrix",
        "openssl.config",
        "openssl.programs",
        "openssl.python",
        "openssl.others",
    ]
    assert judged.errors == ()
    assert (subject(judged).built_with_ktls, subject(judged).enabled_by_default) == (Tri.YES, Tri.NO)


def test_receiving_of_tls13_by_3_0_is_explained_and_no_fault() -> None:
    judged = debian().report()
    matrix = check(judged, "openssl.matrix")
    assert matrix.summary == "it asks the kernel for TLSv1.2 TX and RX, TLSv1.3 TX"
    assert "from 3.2 on" in matrix.reason
    cells = {cell.suite: cell for cell in subject(judged).cells}
    assert cells["TLS_AES_128_GCM_SHA256"].rx.reason == "OpenSSL hands TLS 1.3 receiving to the kernel from 3.2 on"
    assert cells["TLS_AES_128_CCM_SHA256"].tx.reason == "OpenSSL hands TLS 1.3 with AES-CCM to the kernel from 3.2 on"
    assert cells["TLS_AES_128_CCM_8_SHA256"].tx.reason == "not offered by this library: no ciphers available"
    assert "no AES-256-CCM to the kernel on Linux" in cells["ECDHE-ECDSA-AES256-CCM"].tx.reason
    assert check(debian(DEBIAN13).report(), "openssl.matrix").reason == ""


@pytest.mark.parametrize(("said", "release"), [(DEBIAN12, (3, 0)), (DEBIAN13, (3, 5))], ids=["3.0", "3.5"])
def test_the_cells_of_a_library_are_what_it_asked_for(said: Answer, release: tuple[int, int]) -> None:
    cells = subject(debian(said).report()).cells
    got = {(c.version.value, c.cipher): (c.tx.status is Status.OK, c.rx.status is Status.OK) for c in cells}
    assert got == table(release)
    assert all(cell.reason for c in cells for cell in (c.tx, c.rx) if cell.status is not Status.OK)


def test_one_end_that_asks_alone_is_no_yes() -> None:
    odd = SuiteAnswer(TlsVersion.TLS13, "TLS_AES_128_GCM_SHA256", True, "", Asked(1, 0), Asked(0, 0))
    cells = subject(debian(Answer(version="OpenSSL 3.9.9", suites=(odd,))).report()).cells
    cell = next(c for c in cells if c.suite == odd.suite)
    assert (cell.tx.status, cell.tx.reason) == (Status.UNKNOWN, "only the server asked for the kernel")
    other = next(c for c in cells if c.suite != odd.suite)
    assert other.tx.status is Status.UNKNOWN


def test_a_distribution_that_builds_without_ktls_is_critical_with_a_way_out() -> None:
    build = check(debian(answer("OpenSSL 1.1.1w  11 Sep 2023", None)).report(), "openssl.build")
    assert (build.status, build.summary) == (Status.CRITICAL, "OpenSSL 1.1.1 was built without kTLS")
    assert "Debian 12" in build.remedy[0].text


def test_libressl_is_known_by_its_text_and_its_silence() -> None:
    judged = debian(answer("LibreSSL 3.9.2", None)).report()
    assert subject(judged).reason == "LibreSSL has no kTLS"
    assert check(judged, "openssl.build").status is Status.CRITICAL


def test_where_no_session_came_about_nothing_is_concluded() -> None:
    refused = tuple(SuiteAnswer(s.version, s.name, False, "no cipher match", Asked(0, 0), Asked(0, 0)) for s in SUITES)
    judged = debian(Answer(version="OpenSSL 3.0.22", suites=refused)).report()
    build = check(judged, "openssl.build")
    assert build.status is Status.UNKNOWN
    assert "no cipher match" in build.reason


def test_the_newest_of_the_distributions_libraries_is_judged() -> None:
    judged = debian(DEBIAN12).has(f"{LIB}/libssl.so.10", answer("OpenSSL 1.0.2", None)).report()
    assert subject(judged).path == f"{LIB}/libssl.so.3"
    assert check(judged, "openssl.others").status is Status.OK
    assert "never get kTLS" in check(judged, "openssl.others").reason


def test_a_local_library_is_judged_where_the_linker_prefers_it() -> None:
    shadow = answer("OpenSSL 3.5.7", None)
    machine = debian().file("/etc/ld.so.conf", f"/usr/local/lib\n{LIB}\n")
    assert subject(machine.has("/usr/local/lib/libssl.so.3", shadow).report()).path == "/usr/local/lib/libssl.so.3"


def test_a_local_library_of_another_name_is_not_the_distributions() -> None:
    machine = debian().file("/etc/ld.so.conf", f"/usr/local/lib\n{LIB}\n")
    judged = machine.has("/usr/local/lib/libssl.so.4", answer("OpenSSL 4.0.3", None)).report()
    assert subject(judged).path == f"{LIB}/libssl.so.3"


def test_a_named_library_is_judged_and_the_systems_still_decides_about_programs() -> None:
    machine = debian(answer("OpenSSL 3.0.22", option=True)).has("/opt/x/lib/libssl.so.3", answer("OpenSSL 3.5.8", None))
    judged = machine.has(f"{LIB}/libpq.so.5.15").report("/opt/x/lib/libssl.so.3")
    assert subject(judged).path == "/opt/x/lib/libssl.so.3"
    assert check(judged, "openssl.programs").status is Status.CRITICAL


def test_of_several_named_the_first_that_works_is_judged_and_the_others_are_errors() -> None:
    machine = debian().has("/x/libssl.so.3", Answer(Fault.EMPTY)).has("/y/libssl.so.3", DEBIAN13)
    judged = machine.report("/x/libssl.so.3", "/y/libssl.so.3")
    assert subject(judged).path == "/y/libssl.so.3"
    assert judged.errors == ("/x/libssl.so.3: it is an empty file; reinstall what it belongs to",)


def test_a_host_without_any_libssl_is_critical_and_one_that_could_not_be_searched_is_not() -> None:
    assert check(Machine().report(), "openssl.found").status is Status.CRITICAL
    assert Machine().report().subject is None
    blind = CapturedHost(LINUX, {})
    judged = report(blind)
    assert check(judged, "openssl.found").status is Status.UNKNOWN
    assert check(judged, "openssl.python").status is Status.UNKNOWN


def test_a_python_with_openssl_linked_into_it_is_judged_where_there_is_nothing_else() -> None:
    static = bound("", version="OpenSSL 3.5.4 30 Sep 2025")
    judged = Machine().python(ssl=static).report()
    assert (subject(judged).origin, subject(judged).version) == ("static", "OpenSSL 3.5.4 30 Sep 2025")
    assert check(judged, "openssl.build").status is Status.WARNING, "strings are no proof"
    judged = Machine().python(ssl=bound("", version="OpenSSL 3.0.13 30 Jan 2024")).report()
    assert check(judged, "openssl.build").status is Status.UNKNOWN


def test_the_wheel_of_pyopenssl_is_named_as_one_that_never_gets_ktls() -> None:
    wheel = "/venv/lib/python3.11/site-packages/cryptography/hazmat/bindings/_rust.abi3.so"
    binding = {"file": wheel, "libssl": "", "version": "OpenSSL 4.0.3 29 Sep 2026", "strings": False}
    judged = debian().python(ssl=bound(f"{LIB}/libssl.so.3"), bindings=[binding]).report()
    library = judged.libraries[1]
    assert (library.path, library.origin, library.roles) == (wheel, "wheel", ("pyopenssl",))
    assert (library.status, library.built_with_ktls) == (Status.SKIP, Tri.NO)
    others = check(judged, "openssl.others")
    assert (others.status, others.summary) == (Status.OK, "1 of 1 other TLS libraries without kTLS")
    assert "pyOpenSSL's OpenSSL 4.0.3" in others.reason


def test_the_libssl_of_python_that_lies_elsewhere_is_asked_too() -> None:
    path = "/root/python/lib/libssl.so.3"
    machine = debian().has(path, answer("OpenSSL 3.5.8", None)).python(ssl=bound(path))
    judged = machine.report()
    assert next(x for x in judged.libraries if "python" in x.roles).path == path
    assert check(judged, "openssl.python").summary == "Python's ssl uses OpenSSL 3.5.8, built without kTLS"


def test_a_python_without_ssl_is_no_fault() -> None:
    assert check(Machine().has(f"{LIB}/libssl.so.3", DEBIAN12).report(), "openssl.python").status is Status.SKIP


# ---- configuration


def switched_on(said: Answer, text: str = ON) -> Machine:
    more = answer(said.version, (3, 0) if said is DEBIAN12 else (3, 5), option=True, unprompted=True)
    return debian(more).file("/usr/lib/ssl/openssl.cnf", text)


@pytest.mark.parametrize(
    "client", [f"{LIB}/libpq.so.5.15", f"{LIB}/libpq.so.5.17", "/usr/lib/postgresql/15/bin/postgres"]
)
def test_a_host_wide_option_is_critical_where_postgresql_up_to_17_is_installed(client: str) -> None:
    machine = switched_on(DEBIAN13).has(client)
    if "postgresql" in client:
        machine._answers["names", "/usr/lib/postgresql"] = Attempt.ran(["15"])
    found = check(machine.report(), "openssl.programs")
    assert found.status is Status.CRITICAL
    assert client in found.reason
    assert len(found.summary) <= 90
    assert found.remedy[0].command == "sed -i.orig '7s/^/#/' /usr/lib/ssl/openssl.cnf"
    assert "every connection fails" in found.reason


def test_with_3_0_only_tls12_of_postgresql_breaks() -> None:
    found = check(switched_on(DEBIAN12).has(f"{LIB}/libpq.so.5.15").report(), "openssl.programs")
    assert "every TLS 1.2 connection fails" in found.reason


def test_postgresql_18_works_under_a_host_wide_option() -> None:
    assert check(switched_on(DEBIAN13).has(f"{LIB}/libpq.so.5.18").report(), "openssl.programs").status is Status.OK


def test_without_a_host_wide_option_what_it_would_break_is_a_note() -> None:
    found = check(debian().has(f"{LIB}/libpq.so.5.15").report(), "openssl.programs")
    assert found.status is Status.OK
    assert "would break libpq 15" in found.reason


def test_a_line_with_more_than_ktls_is_not_commented_out_by_a_command() -> None:
    machine = switched_on(DEBIAN13, ON.replace("Options = KTLS", "Options = PrioritizeChaCha,KTLS"))
    found = check(machine.has(f"{LIB}/libpq.so.5.15").report(), "openssl.programs")
    assert found.remedy[0].command is None
    assert "/usr/lib/ssl/openssl.cnf:7" in found.remedy[0].text


def test_an_option_of_this_environment_only_warns() -> None:
    said = answer(DEBIAN13.version, (3, 5), option=True, config_file="/home/x/my.cnf")
    machine = debian(said).file("/home/x/my.cnf", ON).has(f"{LIB}/libpq.so.5.15")
    found = check(machine.report(), "openssl.programs")
    assert found.status is Status.WARNING
    assert "OPENSSL_CONF" in found.reason
    assert "OPENSSL_CONF" in check(machine.report(), "openssl.config").reason


def test_a_library_without_ktls_breaks_nobody_whatever_its_configuration_says() -> None:
    said = answer("OpenSSL 3.5.8", None, option=True)
    judged = debian(said).file("/usr/lib/ssl/openssl.cnf", ON).has(f"{LIB}/libpq.so.5.15").report()
    assert check(judged, "openssl.programs").status is Status.OK
    assert "without effect" in check(judged, "openssl.config").reason


def test_where_the_option_is_written_is_said() -> None:
    config = check(switched_on(DEBIAN13).report(), "openssl.config")
    assert (config.status, config.reason) == (Status.OK, "written at /usr/lib/ssl/openssl.cnf:7")


def test_a_line_without_effect_is_a_warning_that_says_why() -> None:
    text = ON.replace("ssl_conf = b", "providers = b")
    config = check(debian().file("/usr/lib/ssl/openssl.cnf", text).report(), "openssl.config")
    assert config.status is Status.WARNING
    assert "no `ssl_conf =` line in [a]" in config.reason


def test_a_line_that_only_a_later_release_understands_is_a_warning() -> None:
    text = ON.replace("KTLS", "KTLSTxZerocopySendfile,KTLS")
    config = check(debian().file("/usr/lib/ssl/openssl.cnf", text).report(), "openssl.config")
    assert config.status is Status.WARNING
    assert "unknown to it" in config.reason


@pytest.mark.parametrize(
    "text",
    [
        ON.replace("KTLS", "-KTLS"),
        ON.replace("system_default = c", "system_default = d\nnginx = c\n[d]\nx = y"),
        ON + "x.Options = -KTLS\n",
    ],
    ids=["off on purpose", "for one program", "switched off again"],
)
def test_ktls_that_is_off_by_intent_is_no_warning(text: str) -> None:
    config = check(debian().file("/usr/lib/ssl/openssl.cnf", text).report(), "openssl.config")
    assert config.status is Status.OK
    assert config.evidence["lines"]


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ("OpenSSL 3.0.22", True),
        ("OpenSSL 3.4.9", True),
        ("OpenSSL 3.5.6", True),
        ("OpenSSL 3.5.7", False),
        ("OpenSSL 3.6.2", True),
        ("OpenSSL 3.6.3", False),
        ("OpenSSL 4.0.0", True),
        ("OpenSSL 4.0.1", False),
        ("OpenSSL 4.1.0", False),
        ("OpenSSL 1.1.1w", False),
    ],
)
def test_python_under_a_host_wide_option_is_warned_of_the_moving_write_buffer(version: str, affected: bool) -> None:
    said = answer(version, (3, 5), option=True)
    found = check(debian(said).file("/usr/lib/ssl/openssl.cnf", ON).report(), "openssl.python")
    assert found.status is (Status.WARNING if affected else Status.OK)
    off = check(debian(answer(version, (3, 5))).report(), "openssl.python")
    assert off.status is Status.OK
    assert ("21202" in off.reason) is affected


# ---- FreeBSD


def freebsd(said: Answer, name: str = "libssl.so.30") -> Machine:
    machine = Machine(FREEBSD)
    return machine.has(f"/usr/lib/{name}", said).python(ssl=bound(f"/usr/lib/{name}"))


def test_freebsds_base_library_is_judged_before_the_ports() -> None:
    base = Answer(
        version="OpenSSL 3.0.16",
        directory="/etc/ssl",
        config_file="/etc/ssl/openssl.cnf",
        suites=freebsd_suites((14, 3)),
    )
    ports = answer("OpenSSL 3.5.7", None)
    judged = freebsd(base).has("/usr/local/lib/libssl.so.16", ports).report()
    assert (subject(judged).path, subject(judged).origin) == ("/usr/lib/libssl.so.30", "distribution")
    assert judged.libraries[1].origin == "ports"
    assert {c.status for c in judged.checks} == {Status.OK}
    cells = {cell.cipher: cell for cell in subject(judged).cells if cell.version is TlsVersion.TLS12}
    assert cells["AES-128-CBC-SHA1"].rx == Cell(Status.OK, "with peers that do not do encrypt-then-MAC")
    assert "on FreeBSD" in cells["ARIA-128-GCM"].tx.reason


def test_freebsds_1_1_1_asks_without_being_told_to_and_is_not_claimed_to_break_postgresql() -> None:
    said = Answer(
        version="OpenSSL 1.1.1t-freebsd",
        directory="/etc/ssl",
        config_file="/etc/ssl/openssl.cnf",
        unprompted=True,
        suites=freebsd_suites((13, 2)),
    )
    judged = freebsd(said, "libssl.so.111").has("/usr/local/lib/libpq.so.5.15").report()
    assert subject(judged).enabled_by_default is Tri.YES
    assert check(judged, "openssl.config").reason == "this library tries kTLS in every session without being told to"
    assert check(judged, "openssl.programs").status is Status.WARNING


@pytest.mark.parametrize("line", [(13, 2), (14, 3), (15, 0)])
def test_a_stock_freebsd_is_ok_in_every_check(line: tuple[int, int]) -> None:
    judged = report(CapturedHost(FREEBSD, freebsd_system(line), Outcome.ABSENT))
    assert {c.status for c in judged.checks} == {Status.OK}
    assert subject(judged).built_with_ktls is Tri.YES
    chacha = next(c for c in subject(judged).cells if c.cipher == "CHACHA20-POLY1305")
    assert (chacha.tx.status is Status.OK) is (line >= (15, 0))


def test_a_freebsd_without_a_library_is_not_sent_to_apt() -> None:
    found = check(report(CapturedHost(FREEBSD, {}, Outcome.ABSENT)), "openssl.found")
    assert found.status is Status.CRITICAL
    assert not any(remedy.command for remedy in found.remedy)


def test_freebsd_built_without_openssl_ktls_is_critical() -> None:
    build = check(freebsd(answer("OpenSSL 3.0.16", None)).report(), "openssl.build")
    assert build.status is Status.CRITICAL
    assert "WITHOUT_OPENSSL_KTLS" in build.remedy[0].text


# ---- robustness


ANSWERS = st.builds(
    Answer,
    fault=st.one_of(st.none(), st.sampled_from(Fault)),
    detail=st.text(max_size=20),
    version=st.one_of(st.text(max_size=40), st.sampled_from(["OpenSSL 3.0.22", "OpenSSL 3.5.7", "LibreSSL 3.9"])),
    config_file=st.sampled_from(["", "/usr/lib/ssl/openssl.cnf"]),
    option=st.booleans(),
    unprompted=st.booleans(),
    suites=st.sampled_from([(), suites(None), suites((3, 0)), suites((3, 5)), suites((3, 0))[:3]]),
)


@given(ANSWERS, st.text(max_size=80), st.booleans(), st.booleans())
def test_every_answer_is_judged_and_every_finding_is_well_formed(
    said: Answer, text: str, named: bool, bad: bool
) -> None:
    path = f"{LIB}/libssl.so.3"
    machine = debian(said).file("/usr/lib/ssl/openssl.cnf", ON + text).has(f"{LIB}/libpq.so.5.15")
    if bad:
        machine.has(path, Attempt.ran({"suites": 7}))
    judged = machine.report(*([path] if named else []))
    for found in judged.checks:
        assert 0 < len(found.summary) <= 90
        assert found.status is Status.OK or found.reason
    for library in judged.libraries:
        assert library.status is Status.OK or library.reason
    assert bool(judged.errors) == (named and judged.libraries[0].status is Status.UNKNOWN)
