# SPDX-License-Identifier: BSD-2-Clause
"""Real kernels with kernel TLS, booted under QEMU's own emulation: what a test needs that no mock can stand for.

    with boot(DEBIAN13) as guest:
        guest.run("modprobe tls").check()
        guest.run(f"{guest.ktlsctl} status", user="nobody").stdout

`scripts/lab-setup` makes what is booted here, by hand or in CI, never a test: a test run must not install packages.
Nothing a guest does outlives it: it sees its root read-only below overlays in its own memory.  It has no network
but loopback.  There is no clean shutdown for the same reason: closing a guest is killing its QEMU.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROJECT = Path(__file__).resolve().parents[2]
LAB = Path(os.environ.get("KTLSCTL_LAB_DIR") or PROJECT / ".lab").absolute()

# Emulated, on a shared CI machine: a boot takes 10 s where nothing else runs.
BOOT_TIMEOUT = 240.0
# Bytes that a guest believes to have; this machine gives them as they are touched, in the end three quarters.
GUEST_MEMORY = 2 << 30
# Beyond a command's own deadline, which the guest enforces: the guest itself hangs.
GRACE = 60.0

# What an emulated processor has no use for, and pays for: defences against its speculation, a fifth level of pages.
_FASTER = ("mitigations=off", "no5lvl")

_MOUNTED_PROJECT = "/run/lab/project"
_WRITABLE = ("/etc", "/usr", "/lib", "/var", "/opt", "/srv", "/home", "/root", "/tmp")
_LIBRARIES = tuple(lib + more for lib in ("lib/x86_64-linux-gnu", "lib") for more in ("", "/systemd"))
_HEADER = struct.Struct(">II")


class LabError(Exception):
    """The lab could not do what it was asked."""


class LabTimeout(LabError):
    """A command exceeded its deadline; it and whatever it started have been killed, and the guest lives on.

    What the command had written until then is in `stdout` and `stderr`."""

    def __init__(self, message: str, stdout: bytes = b"", stderr: bytes = b"") -> None:
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr


class LabDied(LabError):
    """The guest is gone or hangs; the message ends with the last lines of its console."""


@dataclass(frozen=True, slots=True)
class LabHost:
    """A kernel and a userland to boot it on. `linux` and `openssl` are how their versions begin."""

    name: str
    linux: str
    openssl: str

    def __str__(self) -> str:
        return self.name

    @property
    def directory(self) -> Path:
        return LAB / "hosts" / self.name

    @property
    def root(self) -> Path | None:
        """The root file system built for it; None: this machine's own."""
        root = self.directory / "root"
        return root if root.is_dir() else None

    @property
    def ready(self) -> bool:
        return (self.directory / "stamp").is_file() and (LAB / "tools" / "stamp").is_file()

    def program(self, path: str) -> str:
        """How a guest's shell calls one of the programs of scripts/lab-setup, by its path on an installed host.

        For this machine's own root they are unpacked beside it, but for those that this machine has itself."""
        programs = self.directory / "programs"
        found = [place for place in (programs / path[1:], programs / "usr" / path[1:]) if place.exists()]
        if not found:
            return path
        libraries = (programs / usr / directory for usr in ("", "usr") for directory in _LIBRARIES)
        return f"env LD_LIBRARY_PATH={':'.join(map(str, libraries))} {found[0]}"

    @property
    def kernel_release(self) -> str:
        """What `uname -r` says in its guest."""
        return (self.directory / "kernel" / "version").read_text(encoding="ascii").strip()


DEBIAN12 = LabHost("debian12", linux="6.1.", openssl="3.0.")
DEBIAN13 = LabHost("debian13", linux="6.12.", openssl="3.5.")
SID = LabHost("sid", linux="7.", openssl="3.")
HOSTS = (DEBIAN12, DEBIAN13, SID)


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended. `status` is a shell's: 128 + N for the end by signal N."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        return self.stdout.decode(errors="surrogateescape")

    @property
    def err(self) -> str:
        return self.stderr.decode(errors="surrogateescape")

    def check(self) -> Result:
        """Itself, if the command succeeded; else an AssertionError that shows both outputs."""
        if self.status != 0:
            raise AssertionError(f"status {self.status}\n--- stdout\n{self.out}\n--- stderr\n{self.err}")
        return self


def by_name(name: str) -> LabHost:
    for host in HOSTS:
        if host.name == name:
            return host
    raise LabError(f"no such host: {name} (there are: {' '.join(map(str, HOSTS))})")


def run(host: LabHost, command: str, *, timeout: float = 180, append: str = "", user: str | None = None) -> Result:
    """One shell command in a guest booted for it alone."""
    with boot(host, append=append) as guest:
        return guest.run(command, timeout=timeout, user=user)


@contextlib.contextmanager
def boot(host: LabHost, append: str = "") -> Iterator[Guest]:
    """A guest, until the block ends. `append`: more kernel command line, such as `module_blacklist=tls`."""
    guest = Guest(host, append)
    try:
        yield guest
    finally:
        guest.close()


class Guest:
    """A booted host.

    Not for two threads at once; a test that needs two commands at a time uses `&` in one.  Its QEMU dies with the
    thread that booted it, so that none is left when a test run is killed.
    """

    project = _MOUNTED_PROJECT
    """The checkout (all of it, read-only), at the same place in every guest."""

    def __init__(self, host: LabHost, append: str = "") -> None:
        if not host.ready:
            raise LabError(f"{host} is not set up: run scripts/lab-setup {host}")
        self.host = host
        self._unusable: str | None = None
        try:
            self._ktlsctl = sync(host)
        except (LabError, OSError, subprocess.SubprocessError) as error:
            # A tree that does not build must not keep the lab from booting: whoever asks for ktlsctl gets the reason.
            self._unusable = str(error)
            self._ktlsctl = ""
        self._why_dead: str | None = None
        self._console: deque[bytes] = deque(maxlen=200)
        start = time.monotonic()
        self._scratch = _scratch()
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                _command(host, append, theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**_clean_environment(), "TMPDIR": self._scratch.name},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            self._scratch.cleanup()
            raise
        finally:
            theirs.close()
        self._socket = ours
        self._reader = threading.Thread(target=self._read_console, daemon=True)
        self._reader.start()
        try:
            self._send({"expose": _executables(host)})
            self.facts = self._receive(time.monotonic() + BOOT_TIMEOUT, "to boot")[0]
        except BaseException:
            self.close()
            raise
        self.boot_seconds = time.monotonic() - start

    @property
    def ktlsctl(self) -> str:
        """The path of the executable of the project's present source, for root and for nobody."""
        if self._unusable is not None:
            raise LabError(f"{self.host}: ktlsctl does not install there: {self._unusable}")
        return self._ktlsctl

    @property
    def console(self) -> str:
        """The last lines that kernel and init wrote."""
        return b"".join(self._console).decode(errors="replace")

    def run(
        self,
        command: str,
        *,
        timeout: float = 180,
        user: str | None = None,
        input: bytes = b"",
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """One command of bash, its outputs apart and exact; as root or as `user`, with `env` on top of a plain one.

        It ends when the shell does: what it left in the background keeps running, until the guest ends."""
        self._send({"command": command, "timeout": timeout, "user": user, "env": dict(env or {})}, input)
        reply, payload = self._receive(time.monotonic() + timeout + GRACE, f"to answer: {command}")
        if "error" in reply:
            raise LabError(f"{self.host}: {reply['error']}")
        stdout, stderr = payload[: reply["stdout"]], payload[reply["stdout"] :]
        if reply["status"] is None:
            raise LabTimeout(f"{self.host}: not done within {timeout:g} s: {command}", stdout, stderr)
        return Result(reply["status"], stdout, stderr)

    def close(self) -> None:
        if self._why_dead is None:
            self._why_dead = "it was closed"
        self._socket.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(5)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()
        self._scratch.cleanup()

    def _read_console(self) -> None:
        stream = self._process.stdout
        if stream is not None:
            self._console.extend(stream)

    def _die(self, why: str) -> NoReturn:
        self._why_dead = why
        self.close()
        raise LabDied(f"{self.host}: {why}\n--- the end of its console\n{self.console}") from None

    def _send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        if self._why_dead is not None:
            raise LabDied(f"{self.host}: gone since: {self._why_dead}")
        data = json.dumps(header).encode()
        self._socket.settimeout(GRACE)
        try:
            self._socket.sendall(_HEADER.pack(len(data), len(payload)) + data + payload)
        except OSError as error:
            self._die(f"the guest takes no command: {error}")

    def _receive(self, deadline: float, what: str) -> tuple[dict[str, Any], bytes]:
        try:
            sizes = _HEADER.unpack(self._exactly(_HEADER.size, deadline))
            header = json.loads(self._exactly(sizes[0], deadline))
            return header, self._exactly(sizes[1], deadline)
        except TimeoutError:
            self._die(f"the guest took too long {what}")
        except OSError as error:
            self._die(f"the guest ended ({error}) when it was {what}")

    def _exactly(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            chunk = self._socket.recv(min(size - len(data), 1 << 20))
            if not chunk:
                raise ConnectionResetError("channel closed")
            data += chunk
        return bytes(data)


def sync(host: LabHost) -> str:
    """Bring the project's present source to `host`; the path of ktlsctl in its guests.

    On this machine's own root there is nothing to bring: the guest sees the checkout and the virtual environment that
    the tests run in (or `.venv`).  A built root gets a copy, installed there with its own Python: the package has
    compiled parts.
    """
    root = host.root
    if root is None:
        beside = Path(sys.executable).parent / "ktlsctl"
        installed = beside if beside.is_file() else PROJECT / ".venv" / "bin" / "ktlsctl"
        if not installed.is_file():
            raise LabError(f"no ktlsctl in {installed.parent}: pip install -e .")
        return str(installed)
    return install(host, PROJECT)


def install(host: LabHost, source: Path) -> str:
    """`sync` of a built root, for the source tree of any package that has an executable `ktlsctl`."""
    root = host.root
    if root is None:
        raise LabError(f"{host} has this machine's own root")
    # read once: someone may be editing
    files = {name: (source / name).read_bytes() for name in _sources(source)}
    if "pyproject.toml" not in files:
        raise LabError("there is no pyproject.toml")
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    digest = hashlib.sha256(json.dumps(sums).encode()).hexdigest()
    stamp = root / "opt" / "ktlsctl" / "stamp"
    executable = "/opt/ktlsctl/venv/bin/ktlsctl"

    def current() -> bool:
        with contextlib.suppress(FileNotFoundError):  # another session removes it at any moment
            return stamp.read_text(encoding="ascii") == digest
        return False

    if current():
        return executable
    with (host.directory / "sync.lock").open("w") as lock, tempfile.TemporaryDirectory() as stage:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if current():  # another session was faster
            return executable
        for name, content in files.items():
            (Path(stage) / "src" / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(stage) / "src" / name).write_bytes(content)
        (Path(stage) / "stamp").write_text(digest, encoding="ascii")
        Path(stage).chmod(0o755)
        script = """
            set -e
            umask 022
            home=$1/opt/ktlsctl
            mkdir -p "$home"
            rm -rf "$home/src" "$home/stamp"
            cp -r "$2/src" "$home/src"
            in_root() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 chroot "$root" "$@"; }
            root=$1
            in_root test -x /opt/ktlsctl/venv/bin/pip || {
                in_root rm -rf /opt/ktlsctl/venv
                in_root python3 -m venv --system-site-packages /opt/ktlsctl/venv
            }
            in_root /opt/ktlsctl/venv/bin/python -m pip -q --disable-pip-version-check --no-cache-dir install \\
                --no-deps --no-build-isolation --no-index --force-reinstall /opt/ktlsctl/src
            cp "$2/stamp" "$home/stamp"
        """
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        done = subprocess.run(
            [*sudo, "sh", "-c", script, "sync", str(root), stage],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_clean_environment(),
            timeout=600,
            check=False,
        )
    if done.returncode != 0:
        raise LabError(f"status {done.returncode}\n{done.stdout.decode(errors='replace')}")
    return executable


def _sources(source: Path) -> list[str]:
    """What a build reads, without what one leaves behind."""
    left_behind = {".so", ".pyc", ".o"}
    generated = {"ktlsctl/_libssl.py", "ktlsctl/datapath/_datapath.c"}
    names = ["pyproject.toml", "setup.py", "setup.cfg", "MANIFEST.in", "README.md", "LICENSE"]
    found = [name for name in names if (source / name).is_file()]
    for path in sorted((source / "ktlsctl").rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.is_file() and path.suffix not in left_behind and name not in generated:
            found.append(name)
    return found


def _scratch() -> tempfile.TemporaryDirectory[str]:
    """Where vng keeps a file while a guest runs; those of test runs that were killed go now."""
    prefix = "ktlsctl-lab-"
    for old in Path(tempfile.gettempdir()).glob(prefix + "*-*"):
        owner = old.name.removeprefix(prefix).partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            shutil.rmtree(old, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-")


def _executables(host: LabHost) -> list[str]:
    """Paths on this machine's own root that nobody must reach, though they may be below someone's private home."""
    if host.root is not None:
        return []
    environments = {PROJECT / ".venv", Path(sys.prefix)}
    paths = {str(PROJECT / "pyproject.toml"), os.path.realpath(sys.executable)}
    for environment in environments:
        paths.add(str(environment / "bin" / "python3"))
    return sorted(paths)


def _clean_environment() -> dict[str, str]:
    """For vng and pip: nothing of the tests' own Python."""
    keep = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_", "VIRTUAL_"))}
    # Debian keeps depmod, modprobe and chroot where an ordinary user's PATH does not look.
    return {**keep, "PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"}


def _processors() -> str:
    """One where guests run side by side: a second emulated one costs half as much again, spent on waiting."""
    return "1" if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1 else "2"


def _command(host: LabHost, append: str, channel: int) -> list[str]:
    """virtme-run: vng's own lower half, which takes arguments instead of building a shell command of them.

    Its standard streams are a pipe that ends in our log: nothing of them is data.  Commands and results go through a
    virtio port, whose other end is a socket that QEMU inherits: no name to clash or to be left behind, and either
    side sees the other's end.
    """
    root = host.root
    tools = LAB / "tools"
    system = root or Path("/")
    writable = [d for d in _WRITABLE if (system / d[1:]).is_dir() and not (system / d[1:]).is_symlink()]
    return [
        *("setpriv", "--pdeathsig", "KILL"),
        *(str(tools / "bin" / "python"), "-m", "virtme.commands.run"),
        *("--kimg", str(host.directory / "kernel" / "boot" / "vmlinuz")),
        *(("--root", str(root)) if root is not None else ()),
        *("--qemu-bin", str(tools / "qemu"), "--mods", "auto", "--disable-kvm", "--force-9p"),
        *("--cpus", _processors(), "--memory", f"{GUEST_MEMORY >> 20}M", "--name", host.name, "--show-boot-console"),
        *(f"--overlay-rwdir={directory}" for directory in writable),
        f"--rodir={_MOUNTED_PROJECT}={PROJECT}",
        *(f"--kopt={word}" for word in ("loglevel=5", *_FASTER, *shlex.split(append))),
        *("--script-sh", f"exec /usr/bin/python3 -I -S {_MOUNTED_PROJECT}/tests/lab/agent.py"),
        "--qemu-opts",
        *("-chardev", f"socket,id=lab,fd={channel}"),
        *("-device", "virtio-serial-pci,id=lab-bus"),
        *("-device", "virtserialport,bus=lab-bus.0,chardev=lab,name=ktlsctl.lab"),
    ]
