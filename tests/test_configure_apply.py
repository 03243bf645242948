# SPDX-License-Identifier: BSD-2-Clause
"""configure/apply.py: nothing half-written whatever happens, everything put back, nobody overwritten."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktlsctl.changes import Change, FileEdit, Kind, Outcome, Plan, RunStanding, Scope, Standing, State, Turn, verdict
from ktlsctl.configure import undo as planner
from ktlsctl.configure.apply import Changed, apply, undo
from ktlsctl.configure.files import FileProblem
from ktlsctl.configure.journal import Busy, Journal, JournalError, RunState
from ktlsctl.configure.past import past_runs
from ktlsctl.configure.roots import Root, RootHost
from ktlsctl.host import READ_LIMIT, CapturedHost, Ran
from ktlsctl.model import About, Attempt, Os, Status
from tests.elsewhere import linux_only
from tests.stepping import killed_at
from tests.trees import tree

#: Of the files that are there before; only root can give one away.
OWNER = (1234, 4321) if os.geteuid() == 0 else (os.geteuid(), os.getegid())

LINUX = About(Os.LINUX, "6.1.0", "x86_64", True)

#: Relative path -> content before and after; None: no file.
Edits = Mapping[str, tuple[bytes | None, bytes | None]]

EDITS: Edits = {
    "/etc/modules-load.d/ktlsctl.conf": (None, b"tls\n"),
    "/etc/new/deep/file": (None, b"x" * 70000),
    "/etc/sysctl.conf": (b"a=1\r\nb=2", b"a=1\r\nb=3"),
    "/etc/gone": (b"our own\n", None),
    "/etc/linked": (b"target\n", b"edited\n"),
}


@dataclass
class Bench:
    """A root with files, and a journal."""

    path: Path
    edits: Edits

    def __post_init__(self) -> None:
        (self.path / "etc").mkdir(parents=True)
        (self.path / "var" / "lib").mkdir(parents=True)
        for name, (before, _) in self.edits.items():
            file = self.path / name[1:]
            if before is None:
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            if name == "/etc/linked":
                (self.path / "etc" / "target").write_bytes(before)
                file.symlink_to("/etc/target")
            else:
                file.write_bytes(before)
                file.chmod(0o640)
                os.chown(file, *OWNER)

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[RootHost, Root, Journal]]:
        root = Root(str(self.path))
        try:
            yield RootHost(root, LINUX), root, Journal(root, Os.LINUX)
        finally:
            root.close()

    def plan(self) -> Plan:
        changes = tuple(
            Change(f"boot.{i}", Scope.BOOT, Kind.FILE, f"edit {name}", FileEdit(name, before, after))
            for i, (name, (before, after)) in enumerate(self.edits.items())
        )
        return Plan("enable", (Scope.BOOT,), changes)

    def apply(self) -> Outcome:
        with self.open() as (host, root, journal):
            return apply(self.plan(), "enable", host, root, journal)

    def undo(self, number: int | None = None) -> Outcome:
        with self.open() as (host, root, journal):
            runs = journal.runs()
            run = planner.newest(runs) if number is None else next(r for r in runs if r.id == number)
            assert run is not None
            return undo(planner.plan(run, runs, host, root), host, root, journal)

    def standings(self) -> list[RunStanding]:
        with self.open() as (_, _, journal):
            return [run.state for run in past_runs(journal)]

    def contents(self) -> dict[str, bytes | None]:
        places = {name: self.path / name[1:].replace("linked", "target") for name in self.edits}
        return {name: place.read_bytes() if place.exists() else None for name, place in places.items()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "root", EDITS)


def after(edits: Edits) -> dict[str, bytes | None]:
    return {name: new for name, (_, new) in edits.items()}


def test_every_file_is_written_and_put_back_with_mode_owner_and_links(bench: Bench) -> None:
    before = tree(bench.path)
    outcome = bench.apply()
    assert outcome.standing(Scope.BOOT) is Standing.CHANGED
    assert outcome.standing(Scope.NOW) is Standing.NOT_ASKED
    assert bench.contents() == after(EDITS)
    assert os.readlink(bench.path / "etc/linked") == "/etc/target"
    kept = (bench.path / "etc/sysctl.conf").stat()
    assert (kept.st_mode & 0o7777, kept.st_uid, kept.st_gid) == (0o640, *OWNER)
    new = (bench.path / "etc/new/deep/file").stat()
    assert (new.st_mode & 0o7777, new.st_uid) == (0o644, os.geteuid())
    assert verdict(bench.undo()).status is Status.OK
    assert tree(bench.path) == before
    assert bench.standings() == [RunStanding.UNDONE]


def test_the_journal_is_for_root_alone(bench: Bench) -> None:
    bench.apply()
    journal = bench.path / "var/lib/ktlsctl/journal"
    assert journal.stat().st_mode & 0o777 == 0o700
    assert {f.stat().st_mode & 0o777 for f in journal.iterdir()} == {0o600}


def test_extended_attributes_are_kept_and_put_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "root", {"/etc/a": (b"1", b"2")})
    os.setxattr(bench.path / "etc/a", "user.label", b"x")
    bench.apply()
    assert os.getxattr(bench.path / "etc/a", "user.label") == b"x"
    bench.undo()
    assert os.getxattr(bench.path / "etc/a", "user.label") == b"x"


def test_a_strict_umask_does_not_close_what_is_made(bench: Bench) -> None:
    before = os.umask(0o077)
    try:
        bench.apply()
    finally:
        os.umask(before)
    assert (bench.path / "etc/new/deep").stat().st_mode & 0o777 == 0o755


def test_nothing_to_change_writes_no_journal(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "root", {})
    assert bench.apply().run is None
    assert not (bench.path / "var/lib/ktlsctl").exists()


content = st.one_of(st.none(), st.binary(max_size=60))


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(["/etc/a", "/etc/b/c", "/etc/b/d"]), st.tuples(content, content), max_size=3))
def test_undo_of_any_edit_of_any_file_is_what_was(tmp_path_factory: pytest.TempPathFactory, edits: Edits) -> None:
    bench = Bench(tmp_path_factory.mktemp("any") / "root", edits)
    before = tree(bench.path)
    if bench.apply().run is not None:
        assert bench.contents() == after(edits)
        bench.undo()
    assert tree(bench.path) == before


# --- killed ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: these tests wait for a disk thousands of times."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="ktlsctl-test-") as directory:
        yield Path(directory)


def _whole(bench: Bench) -> None:
    """Each file is entirely the old or entirely the new one."""
    for name, now in bench.contents().items():
        assert now in bench.edits[name], name


@pytest.mark.parametrize("half", [False, True], ids=["before", "halfway"])
def test_killed_at_any_change_nothing_is_half_written_and_undo_is_complete(quick: Path, half: bool) -> None:
    number, interrupted = 0, 0
    while True:
        number += 1
        bench = Bench(quick / str(number), EDITS)
        before = tree(bench.path)
        if not killed_at(number, bench.apply, half=half):
            break
        _whole(bench)
        states = bench.standings()
        if states == [RunStanding.INTERRUPTED]:
            interrupted += 1
            assert verdict(bench.undo()).status is Status.OK
            assert bench.standings() == [RunStanding.UNDONE]
        elif states == [RunStanding.DONE]:
            bench.undo()
        else:
            assert states == [], "killed before the journal was written: nothing was changed"
        assert tree(bench.path) == before, number
    assert number > 40
    assert interrupted > 20
    assert bench.contents() == after(EDITS)


@pytest.mark.parametrize("half", [False, True], ids=["before", "halfway"])
def test_undo_that_is_killed_at_any_change_can_be_finished(quick: Path, half: bool) -> None:
    number = 0
    while True:
        number += 1
        bench = Bench(quick / str(number), EDITS)
        before = tree(bench.path)
        bench.apply()
        if not killed_at(number, bench.undo, half=half):
            break
        _whole(bench)
        if bench.standings() != [RunStanding.UNDONE]:
            bench.undo()
        assert bench.standings() == [RunStanding.UNDONE]
        assert tree(bench.path) == before, number
    assert number > 30
    assert tree(bench.path) == before


def _litter(bench: Bench) -> list[Path]:
    return [path for path in bench.path.rglob(".*") if path.name.endswith(".ktlsctl-1")]


def test_after_a_killed_run_the_next_one_tells_of_it_and_clears_its_litter(quick: Path) -> None:
    for number in range(1, 100):
        bench = Bench(quick / str(number), EDITS)
        assert killed_at(number, bench.apply, half=True)
        if _litter(bench):
            break
    bench.edits = {"/etc/other": (None, b"y")}
    outcome = bench.apply()
    assert "run 1 (ktlsctl enable" in outcome.notices[0]
    assert "ktlsctl undo 1" in outcome.notices[0]
    assert _litter(bench) == []


# --- somebody else --------------------------------------------------------------------------------------------------


def test_what_somebody_else_changed_since_is_shown_and_not_overwritten(bench: Bench) -> None:
    bench.apply()
    file = bench.path / "etc/sysctl.conf"
    file.write_bytes(b"a=1\r\nb=3\nmine=1\n")
    outcome = bench.undo()
    assert file.read_bytes() == b"a=1\r\nb=3\nmine=1\n"
    (obstacle,) = outcome.plan.obstacles
    assert "changed by somebody else" in obstacle.summary
    assert "+mine=1" in obstacle.diff
    assert verdict(outcome).status is Status.CRITICAL
    # everything else is back, and the run stays open for another try
    assert (bench.path / "etc/gone").exists()
    assert bench.standings() == [RunStanding.DONE]
    file.write_bytes(b"a=1\r\nb=3")
    assert verdict(bench.undo()).status is Status.OK
    assert file.read_bytes() == b"a=1\r\nb=2"


def test_a_file_that_a_later_run_changed_is_left_and_that_run_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "root", {"/etc/a": (b"1", b"2")})
    bench.apply()
    bench.edits = {"/etc/a": (b"2", b"3")}
    bench.apply()
    (obstacle,) = bench.undo(1).plan.obstacles
    assert obstacle.remedy[0].command == f"ktlsctl undo 2 --root={bench.path}"
    bench.undo(2)
    bench.undo(1)
    assert (bench.path / "etc/a").read_bytes() == b"1"


def test_an_earlier_run_is_not_undone_before_a_later_one_that_took_its_file_away(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "root", {"/etc/a": (None, b"1")})
    bench.apply()
    bench.edits = {"/etc/a": (b"1", None)}
    bench.apply()
    assert verdict(bench.undo(1)).status is Status.CRITICAL
    assert bench.standings() == [RunStanding.DONE, RunStanding.DONE]
    bench.undo(2)
    assert verdict(bench.undo(1)).status is Status.OK
    assert not (bench.path / "etc/a").exists()


def test_a_file_removed_by_somebody_else_is_not_made_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "root", {"/etc/a": (b"1", b"2")})
    bench.apply()
    (bench.path / "etc/a").unlink()
    assert "changed by somebody else" in bench.undo().plan.obstacles[0].summary
    assert not (bench.path / "etc/a").exists()


def test_a_new_directory_in_which_somebody_put_something_stays(bench: Bench) -> None:
    bench.apply()
    (bench.path / "etc/new/deep/mine").touch()
    assert verdict(bench.undo()).status is Status.OK
    assert [p.name for p in (bench.path / "etc/new/deep").iterdir()] == ["mine"]


def test_a_file_changed_between_plan_and_run_stops_the_run_before_anything_is_done(bench: Bench) -> None:
    before = tree(bench.path)
    plan = bench.plan()
    (bench.path / "etc/gone").write_bytes(b"edited by hand\n")
    changed = tree(bench.path)
    with bench.open() as (host, root, journal), pytest.raises(Changed, match="changed meanwhile"):
        apply(plan, "enable", host, root, journal)
    assert tree(bench.path) == changed != before
    assert bench.standings() == []


def test_a_file_that_appeared_between_plan_and_run_is_not_overwritten(bench: Bench) -> None:
    plan = bench.plan()
    target = bench.path / "etc/modules-load.d"
    target.mkdir()
    (target / "ktlsctl.conf").write_bytes(b"mine\n")
    with bench.open() as (host, root, journal), pytest.raises(Changed):
        apply(plan, "enable", host, root, journal)
    assert (target / "ktlsctl.conf").read_bytes() == b"mine\n"


def test_two_runs_at_once_the_second_says_who_is_at_it(bench: Bench) -> None:
    holder = rf"process {os.getpid()} \(ktlsctl enable\)"
    with bench.open() as (_, _, journal), journal.locked("enable"), pytest.raises(Busy, match=holder):
        bench.apply()
    assert bench.apply().run == 1


def test_a_run_that_somebody_is_at_is_not_called_interrupted(bench: Bench) -> None:
    bench.apply()
    with bench.open() as (_, _, journal):
        (run,) = journal.runs()
        with journal.locked("enable"):
            journal.write(replace(run, state=RunState.OPEN))
            assert journal.interrupted() == ()
            assert bench.standings() == [RunStanding.RUNNING]
        assert [r.id for r in journal.interrupted()] == [1]


def test_a_temporary_name_that_somebody_took_is_not_written_through(bench: Bench) -> None:
    outside = bench.path.parent / "victim"
    outside.write_bytes(b"victim")
    (bench.path / "etc/.sysctl.conf.ktlsctl-1").symlink_to(outside)
    assert bench.apply().standing(Scope.BOOT) is Standing.CHANGED
    assert outside.read_bytes() == b"victim"


# --- a damaged journal ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"{}", b'{"format": 2}', b"\xff", b"[" * 100000, b'{"format": 1, "id": "x"}'],
)
def test_a_damaged_journal_is_one_sentence_and_changes_nothing(bench: Bench, damage: bytes) -> None:
    bench.apply()
    (bench.path / "var/lib/ktlsctl/journal/1.json").write_bytes(damage)
    with bench.open() as (_, _, journal), pytest.raises(JournalError, match=r"1\.json is damaged"):
        journal.runs()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
                    max_leaves=8),
       st.sampled_from(["id", "command", "state", "records", "format"]))  # fmt: skip
def test_no_journal_raises_anything_but_its_own_error(
    tmp_path_factory: pytest.TempPathFactory, junk: object, member: str
) -> None:
    bench = Bench(tmp_path_factory.mktemp("junk") / "root", {"/etc/a": (b"1", b"2")})
    bench.apply()
    file = bench.path / "var/lib/ktlsctl/journal/1.json"
    document = json.loads(file.read_bytes())
    document[member] = junk
    file.write_text(json.dumps(document))
    with bench.open() as (_, _, journal), contextlib.suppress(JournalError):
        journal.runs()


# --- disks that refuse ----------------------------------------------------------------------------------------------

#: Run in a mount namespace of its own: the file systems vanish with it.
_IN_A_NAMESPACE = """
import sys
from pathlib import Path
sys.path.insert(0, {project!r})
from tests.test_configure_apply import refused
print(refused(Path({root!r}), {kind!r}))
"""

MOUNTS = {
    "read-only": "mount --bind {root}/etc {root}/etc; mount -o remount,ro,bind {root}/etc",
    "full": "mount -t tmpfs -o size=8k none {root}/etc; cp -a {root}.copy/etc/. {root}/etc; "
    "dd if=/dev/zero of={root}/etc/ballast bs=1k 2>/dev/null; true",
    "journal full": "mount -t tmpfs -o size=4k,nr_inodes=20 none {root}/var/lib; "
    "dd if=/dev/zero of={root}/var/lib/ballast bs=1k 2>/dev/null; true",
    "journal read-only": "mount --bind {root}/var {root}/var; mount -o remount,ro,bind {root}/var",
    "no right to give a file away": "chown 1234 {root}/etc/a; chmod 644 {root}/etc/a; "
    "set -- setpriv --bounding-set=-chown",
}


def refused(path: Path, kind: str) -> str:
    """In the child: what a run says, and whether each file is whole; with room again, whether undo is complete."""
    bench = Bench.__new__(Bench)
    bench.path, bench.edits = path, SMALL
    before = tree(path)
    try:
        outcome = bench.apply()
    except (FileProblem, JournalError) as error:
        assert tree(path) == before
        return f"not begun: {error}"
    _whole(bench)
    reasons = {made.reason for made in outcome.made if made.state is State.FAILED}
    assert not any(".ktlsctl-" in p.name for p in path.rglob(".*")), "litter"
    if kind == "full":
        (path / "etc/ballast").unlink()
        before = {name: what for name, what in before.items() if name != "etc/ballast"}
        assert verdict(bench.undo()).status is Status.OK
        assert tree(path) == before
    return "; ".join(sorted(reasons))


SMALL: Edits = {"/etc/a": (b"1", b"2" * 5000), "/etc/b": (None, b"3" * 5000)}


@linux_only
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("read-only", "mounted read-only; mount it writable"),
        ("full", "no space left on the device; make room there"),
        ("no right to give a file away", "etc/a: not permitted; see whether it is immutable"),
        ("journal full", "not begun: cannot write .*/var/lib/ktlsctl/journal.*no space left on the device"),
        ("journal read-only", "not begun: cannot write .*/var/lib/ktlsctl.*mounted read-only"),
    ],
)
def test_a_disk_that_refuses_is_one_sentence_and_leaves_every_file_whole(tmp_path: Path, kind: str, said: str) -> None:
    bench = Bench(tmp_path / "root", SMALL)
    subprocess.run(["cp", "-a", str(bench.path), f"{bench.path}.copy"], check=True)
    project = str(Path(__file__).parent.parent)
    program = _IN_A_NAMESPACE.format(project=project, root=str(bench.path), kind=kind)
    script = f'program=$1; shift; {MOUNTS[kind].format(root=bench.path)}; exec "$@" "$0" -c "$program"'
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    done = subprocess.run(
        [*sudo, "unshare", "-m", "--propagation", "private", "sh", "-c", script, sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(said, done.stdout), done.stdout


@pytest.mark.parametrize("errno", [errno.EPERM, errno.EACCES, errno.EIO, errno.EDQUOT])
def test_a_file_that_cannot_be_replaced_is_one_sentence_and_the_others_are_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, errno: int
) -> None:
    """As rename(2) over an immutable file answers; chattr +i is not to be had on every file system."""
    rename = os.rename

    def refuse(source: str, target: str, **named: int) -> None:
        if target == "sysctl.conf":
            raise OSError(errno, os.strerror(errno))
        rename(source, target, **named)

    monkeypatch.setattr(os, "rename", refuse)
    outcome = bench.apply()
    failed = [made for made in outcome.made if made.state is State.FAILED]
    assert [made.change.target for made in failed] == ["/etc/sysctl.conf"]
    assert re.fullmatch(r"cannot write /.*/etc/sysctl.conf: .+; .+, then run this again", failed[0].reason)
    assert bench.contents() == {**after(EDITS), "/etc/sysctl.conf": b"a=1\r\nb=2"}
    assert not list(bench.path.rglob(".*ktlsctl-1"))
    monkeypatch.undo()
    assert verdict(bench.undo()).status is Status.OK


def test_undo_works_where_a_read_only_mount_refuses_to_remove_what_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path / "root", {"/etc/a": (None, b"1")})
    bench.apply()
    unlink = os.unlink

    def refuse(name: str, *, dir_fd: int) -> None:
        try:
            os.stat(name, dir_fd=dir_fd)
        except FileNotFoundError:
            if name.endswith(".ktlsctl-1"):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS)) from None
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse)
    outcome = bench.undo()
    assert (verdict(outcome).status, outcome.notices) == (Status.OK, ())


def test_litter_that_cannot_be_removed_is_told_and_does_not_keep_undo_from_its_work(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "root", {"/etc/a": (None, b"1")})
    bench.apply()
    (bench.path / "etc/.a.ktlsctl-1").mkdir()
    outcome = bench.undo()
    assert verdict(outcome).status is Status.OK
    assert ".a.ktlsctl-1" in outcome.notices[0]


def test_an_undo_of_which_a_step_failed_is_not_called_interrupted_and_can_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path / "root", {"/etc/a": (None, b"1")})
    bench.apply()
    unlink = os.unlink

    def refuse(name: str, *, dir_fd: int) -> None:
        if name == "a":
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse)
    assert verdict(bench.undo()).status is Status.CRITICAL
    assert bench.standings() == [RunStanding.DONE]
    monkeypatch.undo()
    assert verdict(bench.undo()).status is Status.OK
    assert bench.standings() == [RunStanding.UNDONE]


def test_a_run_too_large_for_the_journal_to_read_again_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "root", {"/etc/a": (b"1", b"x" * READ_LIMIT)})
    with pytest.raises(JournalError, match="make the files that it would change smaller"):
        bench.apply()
    assert (bench.path / "etc/a").read_bytes() == b"1"
    assert bench.standings() == []


# --- the running kernel ---------------------------------------------------------------------------------------------


class Kernel:
    """A FreeBSD host whose sysctls can be set, and refuse when told to."""

    def __init__(self, **values: str) -> None:
        self.values = {"kern.osreldate": "1403000", **{k.replace("__", "."): v for k, v in values.items()}}
        self.refuses: set[str] = set()
        self.about = About(Os.FREEBSD, "14.3-RELEASE", "amd64", True)
        self._files = CapturedHost(self.about, {})

    def run(self, *argv: str, timeout: float = 5.0) -> Attempt[Ran]:
        if argv[0] != "sysctl":
            return Attempt.ran(Ran(1, "", f"{argv[0]}: no"))
        if argv[1] == "-ie":
            return Attempt.ran(Ran(0, "".join(f"{k}={v}\n" for k, v in self.values.items() if k in argv), ""))
        name, _, value = argv[1].partition("=")
        if name in self.refuses:
            return Attempt.ran(Ran(1, "", f"sysctl: {name}: Operation not permitted"))
        self.values[name] = value
        return Attempt.ran(Ran(0, "", ""))

    def __getattr__(self, name: str) -> Callable[..., object]:
        return getattr(self._files, name)  # type: ignore[no-any-return]


def _turns(kernel: Kernel, path: Path, *turns: Turn) -> Outcome:
    root = Root(str(path))
    changes = tuple(Change(f"now.{t.name}", Scope.NOW, Kind.SYSCTL, f"set {t.name}", t) for t in turns)
    return apply(Plan("enable", (Scope.NOW,), changes), "enable", kernel, root, Journal(root, Os.FREEBSD))  # type: ignore[arg-type]


def _untold(kernel: Kernel, path: Path) -> Outcome:
    root = Root(str(path))
    journal = Journal(root, Os.FREEBSD)
    runs = journal.runs()
    return undo(planner.plan(runs[-1], runs, kernel, root), kernel, root, journal)  # type: ignore[arg-type]


def test_a_switch_of_the_kernel_is_turned_and_turned_back(tmp_path: Path) -> None:
    kernel = Kernel(a="0")
    assert _turns(kernel, tmp_path, Turn("a", "0", "1")).standing(Scope.NOW) is Standing.CHANGED
    assert kernel.values["a"] == "1"
    assert verdict(_untold(kernel, tmp_path)).status is Status.OK
    assert kernel.values["a"] == "0"


def test_a_switch_that_refuses_is_told_and_does_not_stop_the_others(tmp_path: Path) -> None:
    kernel = Kernel(a="0", b="0")
    kernel.refuses = {"a"}
    outcome = _turns(kernel, tmp_path, Turn("a", "0", "1"), Turn("b", "0", "1"))
    assert [m.state for m in outcome.made] == [State.FAILED, State.DONE]
    assert "Operation not permitted" in outcome.made[0].reason
    assert verdict(outcome).status is Status.CRITICAL
    kernel.refuses = set()
    _untold(kernel, tmp_path)
    assert kernel.values["b"] == "0"


def test_a_switch_that_somebody_else_turned_since_is_left(tmp_path: Path) -> None:
    kernel = Kernel(a="0")
    _turns(kernel, tmp_path, Turn("a", "0", "1"))
    kernel.values["a"] = "7"
    outcome = _untold(kernel, tmp_path)
    assert "neither what it was" in outcome.plan.obstacles[0].summary
    assert kernel.values["a"] == "7"


def test_a_switch_that_a_later_run_turned_back_waits_for_that_run(tmp_path: Path) -> None:
    kernel = Kernel(a="0")
    _turns(kernel, tmp_path, Turn("a", "0", "1"))
    _turns(kernel, tmp_path, Turn("a", "1", "0"))
    root = Root(str(tmp_path))
    runs = Journal(root, Os.FREEBSD).runs()
    undoing = planner.plan(runs[0], runs, kernel, root)  # type: ignore[arg-type]
    root.close()
    assert not undoing.complete
    assert undoing.plan.obstacles[0].remedy[0].command == f"ktlsctl undo 2 --root={tmp_path}"


def test_a_switch_that_says_it_was_turned_and_was_not_is_a_failure(tmp_path: Path) -> None:
    kernel = Kernel(a="0")
    kernel.run = lambda *argv, timeout=5.0: Attempt.ran(  # type: ignore[method-assign]
        Ran(0, "kern.osreldate=1403000\na=0\n" if argv[1] == "-ie" else "", "")
    )
    assert "the kernel still says 0" in _turns(kernel, tmp_path, Turn("a", "0", "1")).made[0].reason


def test_the_lock_ends_with_its_owner(bench: Bench) -> None:
    assert killed_at(8, bench.apply)
    fd = os.open(bench.path / "var/lib/ktlsctl/journal/lock", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
