# SPDX-License-Identifier: BSD-2-Clause
"""`ktlsctl selftest` on this machine: real sessions, whatever the kernel offers, and every way in which they may end.

Where the kernel has no kernel TLS nothing can be proved; everything else holds all the same.  What kernels with it
prove is in test_selftest_in_lab.py.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest
from junitparser import JUnitXml

from ktlsctl.forks import Ended, in_children
from ktlsctl.libssl import TlsError
from ktlsctl.schema import report_schema
from tests.libssls import SYSTEM, from_wheel

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="about this kernel, in the words of Linux")

ROOT = Path(__file__).parent.parent
ARMED = os.path.exists("/proc/net/tls_stat")
#: Sessions alone: scenarios have tests of their own.
COMMAND = [sys.executable, "-m", "ktlsctl", "selftest", "--scenario", "session"]
GCM = "TLS_AES_128_GCM_SHA256"


def selftest(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return run([*COMMAND, *arguments], **options)


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"cwd": ROOT} | options
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


def document(done: subprocess.CompletedProcess[str]) -> Any:
    value = json.loads(done.stdout)
    jsonschema.validate(value, json.loads(report_schema()))
    return value


def sessions_check(report: Any) -> Any:
    return next(c for c in report["checks"] if c["id"] == "selftest.sessions")


def expect_verdict(done: subprocess.CompletedProcess[str], report: Any) -> None:
    """Proofs where the module is there; else a broken link that the check knows too."""
    cells = [result[d] for result in report["results"] for d in ("tx", "rx")]
    if ARMED:
        assert (done.returncode, report["verdict"]["status"]) == (0, "ok"), report["verdict"]
        assert "ok" in {cell["status"] for cell in cells}
        return
    assert (done.returncode, report["verdict"]["status"]) == (2, "critical"), report["verdict"]
    assert {cell["status"] for cell in cells} == {"skip"}
    assert all(cell["reason"] for cell in cells)
    broken = {c["id"]: c["status"] for c in report["checks"]}
    assert report["verdict"]["first_broken"].startswith("linux.")
    assert broken[report["verdict"]["first_broken"]] == "critical"


@pytest.fixture(scope="module")
def whole() -> subprocess.CompletedProcess[str]:
    """One run over everything that the system's library offers."""
    return selftest("--json")


def test_every_suite_of_both_versions_carries_its_bytes_over_io_uring(whole: subprocess.CompletedProcess[str]) -> None:
    report = document(whole)
    assert whole.stderr == ""
    expect_verdict(whole, report)
    results = report["results"]
    assert len({(r["version"], r["suite"]) for r in results}) == len(results) > 20
    assert {r["version"] for r in results} == {"TLSv1.2", "TLSv1.3"}
    assert {(r["datapath"], r["sha256_ok"], r["bytes"]) for r in results} == {("io_uring", True, 131072)}
    assert {r["library"].rpartition("(")[2] for r in results} == {f"{SYSTEM})"}


def test_a_kernel_without_kernel_tls_is_named_as_the_broken_link(whole: subprocess.CompletedProcess[str]) -> None:
    report = document(whole)
    checked = json.loads(run([sys.executable, "-m", "ktlsctl", "check", "--json"]).stdout)
    assert report["verdict"].get("first_broken") == checked["verdict"].get("first_broken")


def test_openssls_own_socket_bio_does_as_well(whole: subprocess.CompletedProcess[str]) -> None:
    done = selftest("--json", "--datapath", "socket")
    report = document(done)
    expect_verdict(done, report)
    assert {(r["datapath"], r["sha256_ok"]) for r in report["results"]} == {("socket", True)}
    assert [r["suite"] for r in report["results"]] == [r["suite"] for r in document(whole)["results"]]


def test_one_suite_one_version_one_direction() -> None:
    report = document(selftest("--json", "--tls1.3", "--suite", GCM, "--direction", "tx", "--bytes", "1"))
    (result,) = report["results"]
    assert (result["suite"], result["bytes"], result["sha256_ok"]) == (GCM, 1, True)
    assert (result["rx"]["status"], result["rx"]["reason"]) == ("skip", "this direction was not asked for")


@pytest.mark.parametrize("direction", ["tx", "rx"])
def test_sizes_around_the_records_edge_arrive(direction: str) -> None:
    for size in (16383, 16384, 16385):
        arguments = ("--json", "--suite", GCM, "--bytes", str(size), "--direction", direction)
        (result,) = document(selftest(*arguments))["results"]
        assert (result["bytes"], result["sha256_ok"]) == (size, True)


@pytest.mark.skipif(ARMED, reason="this kernel may prove it")
def test_a_requirement_that_nothing_proves_is_critical() -> None:
    done = selftest("--json", "--suite", GCM, "--require", "tls1.3:tx")
    verdict = document(done)["verdict"]
    assert (done.returncode, verdict["summary"]) == (2, "required and not proved: TLSv1.3 TX")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--suite", "NOSUCH"),
        ("--suite", GCM, "--tls1.2"),
        ("--require", "nonsense"),
        ("--require", "tls1.2:sideways"),
        ("--bytes", "0"),
        ("--timeout", "0"),
        ("--datapath", "pigeon"),
        ("-q", "-v"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence_with_exit_3(arguments: tuple[str, ...]) -> None:
    done = selftest(*arguments)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("ktlsctl: ")
    assert done.stderr.count("\n") == 1
    assert document(selftest("--json", *arguments))["verdict"]["status"] == "unknown"


def test_prove_reads_the_tap_stream(tmp_path: Path) -> None:
    done = selftest("--format", "tap")
    stream = tmp_path / "selftest.tap"
    stream.write_text(done.stdout)
    said = run(["prove", "--exec", "cat", str(stream)])
    assert "Parse errors" not in said.stdout + said.stderr
    assert (said.returncode == 0) == (done.returncode == 0)


def test_junitparser_reads_the_junit_document(whole: subprocess.CompletedProcess[str]) -> None:
    (suite,) = JUnitXml.fromstring(selftest("--format", "junit").stdout.encode())
    assert suite.tests == len(list(suite)) >= 2 * len(document(whole)["results"])


@pytest.mark.parametrize("wheel", ["psycopg2-binary", "mysql-connector-python"])
def test_a_library_built_without_kernel_tls_never_asks_and_moves_its_bytes_all_the_same(wheel: str) -> None:
    path = from_wheel(wheel)
    done = selftest("--json", "--libssl", path)
    report = document(done)
    assert (done.returncode, report["verdict"]["status"]) == (2, "critical")
    assert len(report["results"]) > 20
    for result in report["results"]:
        assert os.path.realpath(path) in result["library"]
        assert result["sha256_ok"] is True
        for direction in ("tx", "rx"):
            assert result[direction]["status"] == "skip"
            # a cipher that is in no row of the matrix is nobody's
            assert result[direction]["reason"].startswith(("library: ", "neither kernel nor library "))
    reasons = {r["suite"]: r["tx"]["reason"] for r in report["results"]}
    assert reasons[GCM].startswith("library: ")


def test_a_libssl_that_is_none_is_exit_3_and_nothing_was_tested(tmp_path: Path) -> None:
    path = tmp_path / "libssl.so.3"
    path.write_text("not a library\n")
    done = selftest("--json", "--libssl", str(path))
    report = document(done)
    assert (done.returncode, report["verdict"]["status"], report["results"]) == (3, "unknown", [])
    assert str(path) in report["verdict"]["summary"]


# ---- io_uring forbidden


FORBID = """
import ctypes, errno, os, struct, sys
# load the system call's number; io_uring_setup (425 on every architecture) answers EPERM; all else is allowed
code = struct.pack("=HBBI", 0x20, 0, 0, 0) + struct.pack("=HBBI", 0x15, 0, 1, 425)
code += struct.pack("=HBBI", 0x06, 0, 0, 0x00050000 | errno.EPERM) + struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
buffer = ctypes.create_string_buffer(code)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, struct.pack("@HP", 4, ctypes.addressof(buffer)), 0, 0) == 0, ctypes.get_errno()
os.execv(sys.executable, [sys.executable, "-m", "ktlsctl", "selftest", "--json", *sys.argv[1:]])
"""


def test_where_io_uring_is_forbidden_the_socket_does_and_the_report_says_why() -> None:
    done = run([sys.executable, "-c", FORBID])
    report = document(done)
    expect_verdict(done, report)
    assert {(r["datapath"], r["sha256_ok"]) for r in report["results"]} == {("socket", True)}
    assert "io_uring_setup" in sessions_check(report)["evidence"]["io_uring"]


@pytest.mark.parametrize("suite", [(), ("--suite", GCM)])
def test_io_uring_that_was_asked_for_and_is_forbidden_is_unknown(suite: tuple[str, ...]) -> None:
    done = run([sys.executable, "-c", FORBID, "--datapath", "io_uring", *suite])
    report = document(done)
    assert (done.returncode, report["verdict"]["status"], report["results"]) == (3, "unknown", [])
    assert "io_uring_setup" in report["verdict"]["summary"]


# ---- configurations that a throw-away certificate does not meet


def configured(folder: Path, line: str) -> dict[str, str]:
    file = folder / "openssl.cnf"
    file.write_text(f"openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n{line}\n")
    return os.environ | {"OPENSSL_CONF": str(file)}


@pytest.mark.parametrize(
    "line",
    ["CipherString = DEFAULT@SECLEVEL=5", "Groups = P-384", "SignatureAlgorithms = RSA+SHA512", "VerifyMode = Require"],
)
def test_a_hardened_configuration_is_no_failure_of_kernel_tls(line: str, tmp_path: Path) -> None:
    few = ("--suite", GCM, "--suite", "ECDHE-ECDSA-AES128-GCM-SHA256", "--scenario", "records")
    done = selftest("--json", *few, env=configured(tmp_path, line))
    report = document(done)
    sessions = [r for r in report["results"] if r["scenario"] == "session"]
    expect_verdict(done, report | {"results": sessions})
    assert {(r["scenario"], r["sha256_ok"]) for r in sessions} == {("session", True)}
    assert [r["status"] for r in report["results"] if r["scenario"] == "records"] == ["ok", "ok"]


def test_a_version_that_the_configuration_leaves_out_is_not_run(tmp_path: Path) -> None:
    command = [*COMMAND[:4], "--json", "--scenario", "records"]
    report = document(run(command, env=configured(tmp_path, "Protocol = -TLSv1.3")))
    found = {r["version"]: (r["status"], r["reason"]) for r in report["results"]}
    assert found["TLSv1.2"][0] == "ok"
    assert found["TLSv1.3"] == ("skip", "this library's configuration leaves TLSv1.3 out")


@pytest.mark.parametrize("more", [("NONSENSE",), (GCM, "--tls1.2")])
@pytest.mark.parametrize("what", ["session", "bulk"])
def test_a_suite_that_is_not_offered_is_a_usage_error_whatever_is_run(what: str, more: tuple[str, ...]) -> None:
    done = run([*COMMAND[:4], "--scenario", what, "--suite", *more])
    assert (done.returncode, done.stdout) == (3, "")
    assert f"does not offer {more[0]} in these versions" in done.stderr


# ---- sessions that end badly


def crash(number: int = signal.SIGSEGV) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def fail() -> None:
    raise ValueError("no such thing")


def no_room() -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def refuse() -> None:
    raise TlsError("bad record")


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("width", [1, 2, 9])
def test_crash_hang_and_error_are_one_failed_answer_each_in_the_order_of_the_works(width: int) -> None:
    before = descriptors()
    siblings = psutil.Process().children()  # a lab guest may be running
    works: list[Any] = [
        lambda: "first",
        crash,
        lambda: time.sleep(60),
        fail,
        lambda: os._exit(7),
        lambda: crash(signal.SIGRTMIN + 3),
        lambda: "x" * 300_000,
        no_room,
        refuse,
    ]
    answers = in_children(works, 1.0, width)
    assert answers[0] == Ended("first")
    assert answers[1] == Ended(failure="the library died of SIGSEGV")
    assert answers[2] == Ended(failure="no answer within 1 s")
    assert answers[3] == Ended(untried="ValueError: no such thing")
    assert answers[4] == Ended(failure="the session's process ended with status 7 and no answer")
    assert answers[5] == Ended(failure=f"the library died of signal {signal.SIGRTMIN + 3}")
    assert answers[6] == Ended("x" * 300_000)
    assert answers[7:] == [Ended(untried="Too many open files"), Ended(failure="bad record")]
    assert descriptors() == before
    assert psutil.Process().children() == siblings


def test_no_work_is_no_answer() -> None:
    assert in_children([], 1.0, 2) == []


ORDER = """
import json, os, signal, sys
from ktlsctl import session
from ktlsctl.codec import encode
from ktlsctl.model import TlsVersion
from ktlsctl.sessionfacts import Order, Way
order = Order(sys.argv[1], tuple(TlsVersion), (), Way.AUTO, 20000, 20000, 20.0, 1)
"""


def script(body: str) -> Any:
    done = run([sys.executable, "-c", ORDER + textwrap.dedent(body), SYSTEM])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_library_that_crashes_in_one_suite_loses_that_suite_alone() -> None:
    said = script(
        f"""
        genuine = session.run_session
        def crashing(contexts, order, version, suite, alone):
            if suite == "{GCM}":
                os.kill(os.getpid(), signal.SIGABRT)
            return genuine(contexts, order, version, suite, alone)
        session.run_session = crashing
        print(json.dumps(session.probe(encode(order))))
        """
    )
    failures = {s["suite"]: s["failure"] for s in said["sessions"]}
    assert failures.pop(GCM) == "the library died of SIGABRT"
    assert len(failures) > 20
    assert set(failures.values()) == {""}


@pytest.mark.parametrize("place", ["Pair", "handshake"])
def test_what_this_host_refuses_a_session_says_nothing_of_the_library(place: str) -> None:
    said = script(
        f"""
        def refused(*_):
            raise OSError(24, "Too many open files")
        session.{place} = refused
        print(json.dumps(session.probe(encode(order))))
        """
    )
    assert {(s["failure"], s["untried"]) for s in said["sessions"]} == {("", "Too many open files")}


@pytest.mark.parametrize(
    ("raised", "failure", "untried"),
    [
        ("OSError(24, 'Too many open files')", "", "Too many open files"),
        ("OverflowError('too large')", "", "OverflowError: too large"),
        ("TlsError('bad record')", "bad record", ""),
        ("OSError(104, 'reset')", "[Errno 104] reset", ""),
    ],
)
def test_a_trial_that_this_host_refuses_is_told_from_one_that_failed(raised: str, failure: str, untried: str) -> None:
    said = script(
        f"""
        from ktlsctl.libssl import TlsError
        from ktlsctl.sessionfacts import Trial, TrialsOrder
        from ktlsctl.trials import ground, run
        def refused(*_):
            raise {raised}
        ground.Pair = refused
        what = Trial("bulk", TlsVersion.TLS13, "{GCM}")
        print(json.dumps(run.probe(encode(TrialsOrder(sys.argv[1], Way.SOCKET, 20.0, 1, (what,))))))
        """
    )
    assert [(t["failure"], t["untried"]) for t in said["trials"]] == [(failure, untried)]


@pytest.mark.parametrize("way", ["AUTO", "SOCKET"])
def test_sessions_that_end_well_or_not_leave_no_descriptor(way: str) -> None:
    """Measured from the second run on: the first one loads what stays loaded."""
    said = script(
        f"""
        from dataclasses import replace
        from ktlsctl.prepared import prepare
        contexts = prepare(order.libssl, order.datapath).contexts
        order = replace(order, datapath=Way.{way})
        open_ones, failures = [], []
        for seconds in (20.0, 20.0, 0.0, 20.0):
            facts = session.run_session(contexts, replace(order, timeout=seconds), TlsVersion.TLS13, "{GCM}", "no")
            failures.append(facts.failure)
            open_ones.append(sorted(os.listdir("/proc/self/fd")))
        print(json.dumps([open_ones, failures]))
        """
    )
    open_ones, failures = said
    assert failures == ["", "", "deadline passed while shaking hands", ""]
    assert open_ones[1] == open_ones[2] == open_ones[3] == open_ones[0]


# ---- a run that is ended from outside


def at_work(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Every process below a long run, once its sessions are under way."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = []
        for child in psutil.Process(process.pid).children():
            try:
                below = child.children(recursive=True)
            except psutil.NoSuchProcess:
                continue
            if below:
                found = [child, *below]
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("no session began")


@pytest.mark.parametrize(("ended_by", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_run_that_is_ended_leaves_no_process_and_no_file(ended_by: int, status: int, tmp_path: Path) -> None:
    # A job in the background of a script inherits SIGINT ignored, and Python leaves it so.
    process = subprocess.Popen(
        ["env", "--default-signal=INT", *COMMAND, "--json", "--bytes", str(1 << 25), "--timeout", "600"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        started = at_work(process)
        os.killpg(process.pid, ended_by)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (status, "")
    assert "Traceback" not in err
    # with its last process a socket is gone too
    _, alive = psutil.wait_procs(started, timeout=20)
    assert alive == []
    assert list(tmp_path.iterdir()) == []
