# SPDX-License-Identifier: BSD-2-Clause
"""The lab itself: what every test that uses a guest takes for granted."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests import lab
from tests.lab import PROJECT, Guest, LabDied, LabError, LabHost, LabTimeout, boot
from tests.lab.fixtures import EVERY_HOST, need
from tests.workers import group

MEGABYTE = 1 << 20


def test_a_guest_runs_the_kernel_and_the_libssl_of_its_host(lab_guest: Guest) -> None:
    release = lab_guest.run("uname -r").check().out.strip()
    assert release == lab_guest.host.kernel_release
    assert release.startswith(lab_guest.host.linux)
    assert lab_guest.run("openssl version").check().out.startswith(f"OpenSSL {lab_guest.host.openssl}")


@pytest.mark.parametrize("status", [0, 3, 77, 255])
def test_the_exit_status_is_the_command_s_own(lab_guest: Guest, status: int) -> None:
    assert lab_guest.run(f"exit {status}").status == status


def test_death_by_a_signal_is_reported_as_a_shell_does(lab_guest: Guest) -> None:
    assert lab_guest.run("kill -KILL $$").status == 128 + signal.SIGKILL


def test_outputs_are_kept_apart_and_exact(lab_guest: Guest) -> None:
    program = f"""
        import random, sys
        for seed, stream in ((1, sys.stdout), (2, sys.stderr)):
            stream.buffer.write(random.Random(seed).randbytes({MEGABYTE}))
    """
    result = lab_guest.run("python3 -", input=textwrap.dedent(program).encode(), timeout=120).check()
    expected = subprocess.run(
        [sys.executable, "-"], input=textwrap.dedent(program).encode(), capture_output=True, check=True
    )
    assert len(result.stdout) == len(result.stderr) == MEGABYTE
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(expected.stdout).digest()
    assert hashlib.sha256(result.stderr).digest() == hashlib.sha256(expected.stderr).digest()


def test_a_command_may_open_its_outputs_by_name(lab_guest: Guest) -> None:
    for user in (None, "nobody"):
        result = lab_guest.run("echo out >/dev/stdout; echo err >/dev/stderr", user=user).check()
        assert (result.out, result.err) == ("out\n", "err\n")


def test_a_command_reads_what_it_is_given(lab_guest: Guest) -> None:
    assert lab_guest.run("cat", input=b"\x00\xff" * 500_000).stdout == b"\x00\xff" * 500_000
    assert lab_guest.run("cat").stdout == b""
    assert lab_guest.run('echo "$WORD"', env={"WORD": "a 'b' \"c\""}).out == "a 'b' \"c\"\n"


def test_a_deadline_ends_the_command_and_all_it_started(lab_guest: Guest) -> None:
    with pytest.raises(LabTimeout) as caught:
        lab_guest.run("echo before; setsid sleep 4242 & sleep 4243", timeout=2)
    assert caught.value.stdout == b"before\n"
    assert lab_guest.run("pgrep -f '^sleep 424[23]'").status == 1
    assert lab_guest.run("echo alive").out == "alive\n"


def test_what_runs_in_the_background_holds_nothing_up(lab_guest: Guest) -> None:
    assert lab_guest.run("sleep 500 & echo $!", timeout=60).status == 0
    lab_guest.run("pkill -x sleep").check()


def test_commands_run_as_root_unless_told(lab_guest: Guest) -> None:
    assert lab_guest.run("id -u").out == "0\n"
    nobody = lab_guest.run("id -un; id -G; grep CapEff /proc/self/status", user="nobody").check().out.split()
    assert nobody == ["nobody", "65534", "CapEff:", "0000000000000000"]


def test_an_unknown_user_is_told(lab_guest: Guest) -> None:
    with pytest.raises(LabError, match="nosuchuser"):
        lab_guest.run("true", user="nosuchuser")


def test_nobody_can_run_the_project_s_python(lab_guest: Guest) -> None:
    assert lab_guest.facts["problems"] == []
    python = sys.executable if lab_guest.host.root is None else "/usr/bin/python3"
    command = f"{python} -c 'import ssl, json, ctypes; print(json.dumps(1))'"
    assert lab_guest.run(command, user="nobody").check().out == "1\n"


def test_nobody_can_run_ktlsctl(lab_guest: Guest) -> None:
    try:
        ktlsctl = lab_guest.ktlsctl
    except LabError as error:
        if os.environ.get("KTLSCTL_LAB") == "required":
            raise
        pytest.skip(str(error))
    assert "ktlsctl" in lab_guest.run(f"{ktlsctl} --version", user="nobody").check().out


def test_the_checkout_is_there_and_safe(lab_guest: Guest) -> None:
    here = Path(__file__).relative_to(PROJECT)
    assert lab_guest.run(f"cat {lab_guest.project}/{here}", user="nobody").stdout == Path(__file__).read_bytes()
    assert lab_guest.run(f"touch {lab_guest.project}/written").status != 0
    assert not (PROJECT / "written").exists()


def test_tls_is_a_module_that_is_not_loaded_at_boot(lab_guest: Guest) -> None:
    assert lab_guest.run("grep '^tls ' /proc/modules").status == 1
    assert lab_guest.run("test -e /proc/net/tls_stat").status == 1
    lab_guest.run("modprobe tls").check()
    try:
        assert "TlsCurrTxSw" in lab_guest.run("cat /proc/net/tls_stat").check().out
    finally:
        lab_guest.run("rmmod tls").check()
    assert lab_guest.run("test -e /proc/net/tls_stat").status == 1


def test_the_kernel_gives_an_ulp_to_a_socket(lab_guest: Guest) -> None:
    program = """
        import socket
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as c:
            c.setsockopt(socket.IPPROTO_TCP, 31, b"tls")  # TCP_ULP: loads the module
            print(c.getsockopt(socket.IPPROTO_TCP, 31, 16).rstrip(bytes(1)).decode())
    """
    result = lab_guest.run("python3 -; rmmod tls", input=textwrap.dedent(program).encode())
    assert result.check().out == "tls\n"


def test_loopback_is_up_and_there_is_no_other_network(lab_guest: Guest) -> None:
    links = lab_guest.run("ip -o link").check().out.splitlines()
    assert len(links) == 1
    assert "lo: <LOOPBACK,UP" in links[0]


def test_namespaces_work(lab_guest: Guest) -> None:
    lab_guest.run("ip netns add lab && ip netns exec lab ip -o link && ip netns del lab").check()
    lab_guest.run("unshare --net --mount --pid --fork true").check()


def test_io_uring_is_on(lab_guest: Guest) -> None:
    # io_uring_setup(0, NULL): EFAULT or EINVAL where it exists, ENOSYS or EPERM where it is not or switched off
    program = "import ctypes; c = ctypes.CDLL(None, use_errno=True); c.syscall(425, 0, None); print(ctypes.get_errno())"
    assert lab_guest.run(f"python3 -c '{program}'").check().out.strip() in {"14", "22"}


def test_it_has_memory_and_as_many_processors_as_it_was_given(lab_guest: Guest) -> None:
    side_by_side = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1
    assert lab_guest.run("nproc").out == ("1\n" if side_by_side else "2\n")
    kilobytes = int(lab_guest.run("awk '/^MemTotal/ {print $2}' /proc/meminfo").check().out)
    assert kilobytes > 1_800_000


def test_what_tests_need_is_installed(lab_guest: Guest) -> None:
    for tool in ("ip", "ss", "ethtool", "strace", "openssl", "modprobe", "setpriv", "udevadm", "pgrep", "unshare"):
        lab_guest.run(f"command -v {tool}").check()


@pytest.mark.parametrize("directory", ["/etc", "/usr/lib", "/var", "/opt", "/root", "/tmp", "/lib/modules"])
def test_writing_is_possible_and_leaves_no_trace(lab_guest: Guest, directory: str) -> None:
    name = f"ktlsctl-lab-{os.getpid()}"
    lab_guest.run(f"echo x > {directory}/{name} && test -s {directory}/{name}").check()
    root = lab_guest.host.root or Path("/")
    assert not (root / directory[1:] / name).exists()


@pytest.mark.parametrize("host", EVERY_HOST)
def test_append_reaches_the_kernel_and_a_guest_that_dies_says_its_last_words(host: LabHost) -> None:
    with boot(need(host), append="module_blacklist=tls ktlsctl.word='two words'") as guest:
        assert "module_blacklist=tls" in guest.run("cat /proc/cmdline").out.split()
        assert guest.run("modprobe tls").status != 0
        assert guest.run("test -e /proc/net/tls_stat").status == 1
        with pytest.raises(LabDied, match="sysrq triggered crash"):
            guest.run("echo c > /proc/sysrq-trigger; sleep 30")
        with pytest.raises(LabDied, match="gone since"):
            guest.run("true")


# How these two work does not depend on the host.


@pytest.mark.lab
def test_one_command_by_hand() -> None:
    host = need(lab.DEBIAN12)
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab", host.name, "uname -r; echo word >&2; exit 3"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, host.kernel_release + "\n")
    assert done.stderr.splitlines()[-1] == "word"


@pytest.mark.lab
def test_a_guest_does_not_outlive_those_who_booted_it() -> None:
    host = need(lab.DEBIAN12)
    program = f"""
        import time
        from tests import lab
        guest = lab.Guest(lab.by_name("{host}"))
        print(guest._process.pid, flush=True)
        time.sleep(600)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        leader = int(process.stdout.readline())
        assert any("qemu" in name for name in session(leader))
        process.kill()
    deadline = time.monotonic() + 20
    while session(leader):
        assert time.monotonic() < deadline, session(leader)
        time.sleep(0.1)


def session(leader: int) -> list[str]:
    """The commands that live in the session of `leader`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(name)
    return found


def test_all_tests_that_share_a_guest_go_to_one_worker_and_others_to_any(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        assert isinstance(item, pytest.Function)
        if "lab_guest" in item.fixturenames:
            assert group(item.nodeid) == str(item.callspec.params["lab_guest"])
        elif item.module.__name__ == "tests.test_enable_in_lab":
            assert group(item.nodeid) == f"tests/test_enable_in_lab.py {item.callspec.params['seen']}"
        elif not item.get_closest_marker("lab"):
            assert group(item.nodeid) == item.nodeid


def test_a_host_that_is_not_set_up_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "LAB", tmp_path)
    with pytest.raises(LabError, match=r"scripts/lab-setup sid"), boot(lab.SID):
        pass
    monkeypatch.delenv("KTLSCTL_LAB_HOSTS", raising=False)
    monkeypatch.setenv("KTLSCTL_LAB", "required")
    with pytest.raises(pytest.fail.Exception, match="not set up"):
        need(lab.SID)
    monkeypatch.setenv("KTLSCTL_LAB", "off")
    with pytest.raises(pytest.skip.Exception, match="KTLSCTL_LAB=off"):
        need(lab.SID)
    monkeypatch.delenv("KTLSCTL_LAB")
    with pytest.raises(pytest.skip.Exception, match="not set up"):
        need(lab.SID)
    monkeypatch.setenv("KTLSCTL_LAB_HOSTS", "debian12,debian13")
    with pytest.raises(pytest.skip.Exception, match="leaves out sid"):
        need(lab.SID)
    monkeypatch.setenv("KTLSCTL_LAB_HOSTS", "debian12,side")
    with pytest.raises(LabError, match="no such host: side"):
        need(lab.SID)
