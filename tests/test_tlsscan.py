# SPDX-License-Identifier: BSD-2-Clause
"""The look into running processes: real ones with renamed, deleted and replaced libraries, and a made-up /proc."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from ktlsctl.facts import maps, tlsscan
from ktlsctl.facts.tlsfiles import Family
from ktlsctl.facts.tlsscan import File, Order, Scan, Sight
from ktlsctl.host import LiveHost
from tests.elsewhere import linux_only
from tests.libssls import SYSTEM, from_wheel

WAIT = "print(flush=True); import sys; sys.stdin.read()"


@contextlib.contextmanager
def running(code: str) -> Iterator[int]:
    """A Python process that has done `code` and waits; its pid."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", f"{code}; {WAIT}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"\n"
        yield process.pid
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()


def scanned(*pids: int, names: tuple[str, ...] = ()) -> Scan:
    found = tlsscan.read(LiveHost(), Order(pids, names))
    assert found.value is not None, found.reason
    return found.value


def tls(scan: Scan, pid: int) -> list[File]:
    (look,) = [look for look in scan.processes if look.pid == pid]
    files = [scan.files[i] for i in look.files]
    return [file for file in files if file.content is not None and file.content.implementations]


def load(path: str | Path) -> str:
    return f"import ctypes; ctypes.CDLL({str(path)!r})"


def test_a_renamed_copy_is_found_and_is_not_trusted_where_others_may_write(tmp_path: Path) -> None:
    copy = tmp_path / "harmless.so"
    shutil.copy(SYSTEM, copy)
    tmp_path.chmod(0o777)
    with running(load(copy)) as pid:
        (file,) = tls(scanned(pid), pid)
    assert (file.path, file.deleted, file.own) == (str(copy), False, "")
    assert file.content is not None
    assert file.content.implementations[0].family is Family.OPENSSL


def test_the_systems_own_library_may_be_run_under_its_real_path() -> None:
    with running(load(SYSTEM)) as pid:
        (file,) = tls(scanned(pid), pid)
    assert (file.path, file.own, file.here, file.deleted) == (SYSTEM, SYSTEM, True, False)


@linux_only
def test_a_deleted_library_is_read_though_no_name_leads_to_it(tmp_path: Path) -> None:
    copy = tmp_path / "libssl.so.3"
    shutil.copy(from_wheel("psycopg2-binary"), copy)
    crypto = next(Path(from_wheel("psycopg2-binary")).parent.glob("libcrypto*"))
    shutil.copy(crypto, tmp_path)
    with running(f"{load(tmp_path / crypto.name)}; ctypes.CDLL({str(copy)!r})") as pid:
        copy.unlink()
        (file,) = tls(scanned(pid), pid)
        assert (file.deleted, file.replaced, file.own) == (True, False, "")
        # upgraded on disk: the name now leads to another file, which is not what runs
        shutil.copy(SYSTEM, copy)
        (file,) = tls(scanned(pid), pid)
    assert (file.path, file.deleted, file.replaced, file.here, file.own) == (str(copy), True, True, False, "")
    assert file.replaced_here
    assert file.content is not None
    assert file.content.build_id
    assert "does not import sendfile" in file.content.implementations[0].proof


@linux_only
def test_a_library_in_a_memfd_is_found() -> None:
    code = (
        "import os, ctypes; fd = os.memfd_create('hidden');"
        f"os.write(fd, open({SYSTEM!r}, 'rb').read()); ctypes.CDLL(f'/proc/self/fd/{{fd}}')"
    )
    with running(code) as pid:
        (file,) = tls(scanned(pid), pid)
    assert (file.path, file.deleted, file.own) == ("/memfd:hidden", True, "")


@linux_only
def test_processes_are_chosen_by_their_own_name_or_their_programs() -> None:
    program = os.path.basename(os.path.realpath(sys.executable))
    rename = "open('/proc/self/comm', 'w').write('odd name')"
    with running(f"{load(SYSTEM)}; {rename}") as pid:
        assert pid in {look.pid for look in scanned(names=("odd name",)).processes}
        assert pid in {look.pid for look in scanned(names=(program, "nothing else")).processes}
        # what hides its program may be called so
        assert {look.sight for look in scanned(names=("odd",)).processes} <= {Sight.DENIED}
        assert scanned(pid, names=("odd",)).processes == ()


def test_a_process_that_does_not_exist_is_gone_and_one_without_tls_is_only_counted() -> None:
    with running("pass") as pid:
        scan = scanned(pid)
    assert (scan.processes, scan.clear) == ((), 1)
    (look,) = scanned(pid).processes
    assert (look.pid, look.sight) == (pid, Sight.GONE)


# ---- a made-up /proc


def proc(folder: Path, processes: dict[int, dict[str, bytes]]) -> str:
    for pid, files in processes.items():
        (folder / str(pid)).mkdir()
        for name, content in files.items():
            (folder / str(pid) / name).write_bytes(content)
    return str(folder)


def stat_of(name: bytes, flags: int = 0x400000, state: bytes = b"S") -> bytes:
    return b"1 (%s) %s 1 1 1 0 -1 %d 0 0" % (name, state, flags)


@linux_only
def test_kernel_threads_and_zombies_are_counted_and_a_process_that_ends_meanwhile_is_gone(tmp_path: Path) -> None:
    where = proc(
        tmp_path,
        {
            1: {"stat": stat_of(b"init"), "maps": b""},
            2: {"stat": stat_of(b"kthreadd", 0x200000)},
            3: {"stat": stat_of(b"dead", state=b"Z")},
            4: {"stat": stat_of(b"ends")},
            5: {"stat": b"garbage"},
        },
    )
    scan = tlsscan._Scanner(where, Order()).scan()
    assert (scan.clear, scan.empty, scan.hidden) == (1, 2, False)
    assert [(look.pid, look.sight) for look in scan.processes] == [(4, Sight.GONE), (5, Sight.FAILED)]


@linux_only
def test_a_process_that_hides_its_program_may_be_of_the_wanted_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = proc(
        tmp_path,
        {
            1: {"stat": stat_of(b"init"), "maps": b""},
            2: {"stat": stat_of(b"kthreadd", 0x200000)},
            3: {"stat": stat_of(b"worker"), "maps": b""},
        },
    )

    def hidden(path: str) -> str:
        raise (FileNotFoundError if path.endswith("/1/exe") else PermissionError)(13, "Permission denied")

    monkeypatch.setattr(os, "readlink", hidden)
    (look,) = tlsscan._Scanner(where, Order(names=("nginx",))).scan().processes
    assert (look.pid, look.sight, look.reason) == (3, Sight.DENIED, "Permission denied")


@linux_only
def test_a_proc_without_a_first_process_shows_only_some(tmp_path: Path) -> None:
    assert tlsscan._Scanner(proc(tmp_path, {7: {"stat": stat_of(b"x"), "maps": b""}}), Order()).scan().hidden


@linux_only
def test_a_mapped_file_that_nobody_can_show_is_said_to_be_unread(tmp_path: Path) -> None:
    line = b"00400000-00452000 r-xp 00000000 fe:00 7 /no/such/libssl.so.3 (deleted)\n"
    scan = tlsscan._Scanner(proc(tmp_path, {1: {"stat": stat_of(b"x"), "maps": line}}), Order()).scan()
    (file,) = scan.files
    assert (file.path, file.deleted, file.content) == ("/no/such/libssl.so.3", True, None)
    assert file.reason
    assert scan.processes[0].files == (0,)


@linux_only
def test_a_file_that_a_container_has_replaced_is_not_this_hosts(tmp_path: Path) -> None:
    named, where = tmp_path / "libssl.so.3", tmp_path / "proc"
    named.write_text("this host's")
    where.mkdir()
    theirs = where / "1" / "root" / str(named).lstrip("/")
    proc(where, {1: {"stat": stat_of(b"x")}})
    theirs.parent.mkdir(parents=True)
    theirs.write_text("the container's new one")
    (where / "1" / "map_files").mkdir()
    old = where / "1" / "map_files" / "400000-452000"
    old.write_text("the container's old one")
    line = f"00400000-00452000 r-xp 00000000 fe:00 {os.stat(old).st_ino} {named} (deleted)\n"
    (mapping,) = maps.mappings([line.encode()])
    file = tlsscan._Scanner(str(where), Order())._read(File(str(named), "k", True), 1, mapping)
    assert (file.replaced, file.replaced_here) == (True, False)


@linux_only
@pytest.mark.parametrize("kind", ["fifo", "other"])
def test_a_name_that_leads_to_another_file_or_to_none_is_not_read(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "libssl.so.3"
    os.mkfifo(target) if kind == "fifo" else target.write_text("another file")
    inode = os.stat(target).st_ino + (0 if kind == "fifo" else 1)
    line = b"00400000-00452000 r-xp 00000000 fe:00 %d %s\n" % (inode, str(target).encode())
    where = tmp_path / "proc"
    where.mkdir()
    scan = tlsscan._Scanner(proc(where, {1: {"stat": stat_of(b"x"), "maps": line}}), Order()).scan()
    assert scan.files[0].content is None


@linux_only
def test_when_its_time_is_over_the_scan_says_what_it_left_out(tmp_path: Path) -> None:
    where = proc(tmp_path, {1: {"stat": stat_of(b"x"), "maps": b""}})
    for order in (Order(budget=-1), Order(names=("nginx",), budget=-1)):
        (look,) = tlsscan._Scanner(where, order).scan().processes
        assert (look.sight, "time" in look.reason) == (Sight.FAILED, True)


def test_a_step_that_hangs_is_left_behind() -> None:
    hang = threading.Event()
    try:
        with pytest.raises(TimeoutError):
            tlsscan.within(0.05, hang.wait)
    finally:
        hang.set()
    with pytest.raises(ZeroDivisionError):
        tlsscan.within(60, lambda: 1 // 0)
    assert tlsscan.within(60, lambda: 7) == 7


@pytest.mark.parametrize(
    ("mode", "owner", "user", "expected"),
    [
        (0o100644, 0, 0, True),
        (0o100644, 0, 1000, True),
        (0o100644, 1000, 1000, True),
        (0o100644, 1000, 0, False),
        (0o100664, 0, 0, False),
        (0o100646, 0, 0, False),
        (0o041777, 0, 0, False),
    ],
)
def test_a_file_may_be_run_only_where_nobody_else_could_have_put_it(
    mode: int, owner: int, user: int, expected: bool
) -> None:
    assert tlsscan.trusted(os.stat_result((mode, 1, 1, 1, owner, 0, 0, 0, 0, 0)), user) is expected


def test_another_file_of_the_same_name_is_not_the_one_that_is_mapped() -> None:
    assert tlsscan._own(SYSTEM, os.stat(sys.executable)) == ""
    assert tlsscan._own("/no/such/file", os.stat(SYSTEM)) == ""


# ---- FreeBSD, by psutil


class Bsd:
    """A psutil.Process of FreeBSD."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def name(self) -> str:
        if self.pid == 3:
            raise psutil.NoSuchProcess(3)
        return {1: "init", 2: "nginx", 4: "closed"}[self.pid]

    def exe(self) -> str:
        return f"/usr/local/sbin/{self.name()}"

    def memory_maps(self, grouped: bool) -> list[SimpleNamespace]:
        assert not grouped
        if self.pid == 4:
            raise psutil.AccessDenied(4)
        regions = (("r--", SYSTEM), ("r-x", SYSTEM), ("r-x", ""), ("r-x", "/no/such/libssl.so.30"), ("rw-", "/x"))
        return [SimpleNamespace(perms=perms, path=path) for perms, path in regions if self.pid == 2]


def test_on_freebsd_psutil_tells_which_files_are_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "pids", lambda: [1, 2, 3, 4])
    monkeypatch.setattr(psutil, "Process", Bsd)
    scan = tlsscan._bsd(Order())
    assert [(look.pid, look.sight, look.files) for look in scan.processes] == [
        (2, Sight.SEEN, (0, 1)), (3, Sight.GONE, ()), (4, Sight.DENIED, ()),
    ]  # fmt: skip
    assert (scan.clear, scan.empty) == (0, 1)
    assert [(file.path, file.content is not None) for file in scan.files] == [
        (SYSTEM, True), ("/no/such/libssl.so.30", False),
    ]  # fmt: skip
    assert tlsscan._bsd(Order((2,), ("sshd",))).processes == ()
