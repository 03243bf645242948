# SPDX-License-Identifier: BSD-2-Clause
"""What FreeBSD needs so that kernel TLS is on, or off: sysctls now, sysctl.conf and loader.conf at boot, ktls_ocf.

`gather` reads, `plan` is pure.  A running kernel is asked what it has; in another root the files of its kernel are.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ktlsctl import freebsd, sysctl
from ktlsctl.changes import Change, FileEdit, Kind, Obstacle, Scope, Turn, Wishes, below
from ktlsctl.configure import edits, runtime
from ktlsctl.facts import ktlsgauges, loaderconf, rcconf
from ktlsctl.facts.ktlsgauges import CBC_ENABLE, ENABLE, RX_ENABLE
from ktlsctl.freebsd_findings.situation import JAILED, MB_USE_EXT_PGS, MODULE
from ktlsctl.host import Host
from ktlsctl.model import About, Attempt, Direction, Outcome, Remedy
from ktlsctl.sysctl import ConfFile

SYSCTL_CONF = sysctl.FREEBSD_CONF[0]
_KERNEL = "/boot/kernel"

#: From which patch level on a release has kern.ipc.tls.rx_enable (FreeBSD-SA-26:67.ktls); later releases have it.
_RX_SWITCH = {(14, 4): 10, (14, 5): 1, (15, 0): 14, (15, 1): 4}


@dataclass(frozen=True, slots=True)
class Facts:
    """`kernel`: None for another root.  `modules`: names in /boot/kernel.  `contents`: whole configuration files."""

    kernel: freebsd.Facts | None
    sysctl_conf: tuple[ConfFile, ...]
    loader_conf: tuple[ConfFile, ...]
    rc_conf: tuple[ConfFile, ...]
    modules: Attempt[tuple[str, ...]]
    contents: Mapping[str, Attempt[bytes]]


def gather(host: Host, *, running: bool) -> Facts:
    """Everything that a plan rests on; changes nothing."""
    kernel = freebsd.gather(host, load=False) if running else None
    sysctl_conf = kernel.sysctl_conf if kernel else sysctl.persisted(host, _concerns)
    loader_conf = kernel.loader_conf if kernel else loaderconf.read(host, _concerns)
    paths = (*(file.path for file in sysctl_conf), *(f.path for f in loader_conf if f.path != loaderconf.DROP_IN))
    return Facts(
        kernel,
        sysctl_conf,
        loader_conf,
        kernel.rc_conf if kernel else rcconf.read(host),
        host.names(_KERNEL, lambda name: name.startswith(MODULE)),
        {path: host.read(path) for path in paths},
    )


def _concerns(name: str) -> bool:
    return name in (MB_USE_EXT_PGS, f"{MODULE}_load", "tls_load") or name.startswith(f"{ktlsgauges.ROOT}.")


Item = Change | Obstacle


def plan(facts: Facts, about: About, wishes: Wishes) -> Iterator[Item]:
    """Changes and obstacles for the kernel; pure."""
    view = _View(facts, about, wishes)
    scopes = tuple(scope for scope in (Scope.NOW, Scope.BOOT) if wishes.wants(scope))
    obstacle = view.impossible()
    if obstacle is not None:
        summary, remedy = obstacle
        yield from (Obstacle(scope, summary, True, (remedy,)) for scope in scopes)
        return
    if wishes.now and facts.kernel is not None:
        yield from _now(view)
    if wishes.persist:
        yield from _boot(view)
    for interface in wishes.offload:
        yield Obstacle(
            Scope.NOW,
            f"TLS offload of {interface} is switched with ifconfig(8), not by this tool on FreeBSD",
            True,
            (
                Remedy(
                    "switch it", f"ifconfig {interface} {'' if wishes.on else '-'}txtls {'' if wishes.on else '-'}rxtls"
                ),
            ),
        )


@dataclass(frozen=True, slots=True)
class _View:
    facts: Facts
    about: About
    wishes: Wishes

    @property
    def values(self) -> Mapping[str, str]:
        return self.facts.kernel.sysctls.or_else({}) if self.facts.kernel is not None else {}

    @property
    def major(self) -> int:
        """0 where the release says nothing: then no default is counted upon."""
        major = self.about.release.partition(".")[0]
        return int(major) if re.fullmatch(r"\d{1,4}", major, re.ASCII) else 0

    @property
    def loader_is_heard(self) -> bool:
        """13.0 does not take `enable` from the loader (no CTLFLAG_TUN); nor has it a gauge of ChaCha20 sessions."""
        if self.facts.kernel is not None:
            return ktlsgauges.SW_CHACHA20 in self.values
        return not self.about.release.startswith("13.0")

    @property
    def has_rx_switch(self) -> bool:
        """Whether this kernel has kern.ipc.tls.rx_enable; of another root only its version can tell."""
        if self.facts.kernel is not None:
            return RX_ENABLE in self.values
        found = re.match(r"(\d{1,4})\.(\d{1,4})-(\w+)(?:-p(\d{1,4}))?", self.about.release, re.ASCII)
        if found is None or found[3] != "RELEASE":
            return self.major >= 14  # stable branches and main have had the fix since
        branch = int(found[1]), int(found[2])
        first = _RX_SWITCH.get(branch)
        return branch > min(_RX_SWITCH) if first is None else int(found[4] or 0) >= first

    @property
    def backend_is_module(self) -> bool:
        """Whether this system's software backend is a module of its own."""
        if self.facts.kernel is None:
            return f"{MODULE}.ko" in self.facts.modules.or_else(())
        built_in = any(name.startswith(f"{ktlsgauges.OCF}.") for name in self.values) and not self.module_loaded
        return not built_in

    @property
    def module_loaded(self) -> bool:
        kernel = self.facts.kernel
        return kernel is not None and f"{MODULE}.ko" in kernel.files.or_else(())

    @property
    def module_at_boot(self) -> str | None:
        return loaderconf.loads(self.facts.loader_conf, MODULE) or rcconf.loads(self.facts.rc_conf, MODULE)

    def standing(self, name: str) -> tuple[str, str] | None:
        """The value that stands after boot, and the file that sets it."""
        deaf = name == ENABLE and not self.loader_is_heard
        return sysctl.last((*(() if deaf else self.facts.loader_conf), *self.facts.sysctl_conf), name)

    @property
    def settings(self) -> Iterator[tuple[str, str]]:
        """What shall be so, as far as one switch decides it."""
        on, only = self.wishes.on, self.wishes.only
        if on:
            yield ENABLE, "1"
            yield MB_USE_EXT_PGS, "1"
            yield RX_ENABLE, "0" if only is Direction.TX else "1"
        else:
            yield (RX_ENABLE if only is Direction.RX else ENABLE), "0"

    def impossible(self) -> tuple[str, Remedy] | None:
        """Why none of it can be had here."""
        kernel, wishes = self.facts.kernel, self.wishes
        if kernel is not None and not kernel.sysctls.present:
            return f"the kernel's settings could not be read: {kernel.sysctls.reason}", Remedy("mend that first")
        if self.values.get(JAILED, "0") != "0":
            return "the kernel and its boot files are those of the jail's host", Remedy("run this on the host")
        if kernel is not None and ENABLE not in self.values:
            return (
                "this kernel was built without kernel TLS (options KERN_TLS)",
                Remedy("boot GENERIC, which has it on amd64 and arm64"),
            )
        if wishes.only is (Direction.RX if wishes.on else Direction.TX):
            return (
                "FreeBSD has a switch for receiving alone (kern.ipc.tls.rx_enable), and none for sending alone",
                Remedy("use --tx-only with enable, --rx-only with disable, or neither"),
            )
        if wishes.only is not None and not self.has_rx_switch:
            return (
                f"this kernel has no {RX_ENABLE}: it came with the fix for FreeBSD-SA-26:67.ktls",
                Remedy("bring the system to its branch's latest patch level", _updating(wishes.root)),
            )
        return None


def _updating(root: str) -> str:
    there = [] if root == "/" else ["-b", root]
    return shlex.join(["freebsd-update", *there, "fetch", "install"])


# --- the running kernel ---------------------------------------------------------------------------------------------


def _now(view: _View) -> Iterator[Item]:
    if view.wishes.on and view.backend_is_module and not view.module_loaded:
        yield Change(
            f"now.module.{MODULE}", Scope.NOW, Kind.MODULE, f"load {MODULE}, the software backend of this release",
            Turn(MODULE, runtime.ABSENT, runtime.LOADED), "it stays until the next boot",
        )  # fmt: skip
    for name, value in view.settings:
        now = view.values.get(name)
        # a boolean of one byte or an int of four; neither is written for a mere difference in spelling
        if now is not None and (now != "0") != (value != "0"):
            yield Change(
                f"now.sysctl.{name}", Scope.NOW, Kind.SYSCTL, f"set {name} to {value}", Turn(name, now, value),
                "for new sessions; those that run stay as they are" if name != MB_USE_EXT_PGS else "",
            )  # fmt: skip
    if view.wishes.on and view.values.get(CBC_ENABLE) == "0":
        yield Obstacle(
            Scope.NOW,
            f"{CBC_ENABLE} is 0 and stays so: AES-CBC suites remain in user space, as FreeBSD-SA-26:46.ktls advises",
            False,
            (Remedy("if they are wanted in the kernel", f"sysctl {CBC_ENABLE}=1"),),
        )


# --- at boot --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Files:
    """Edits by file: several assignments to one file are one change."""

    facts: Facts
    after: dict[str, bytes] = field(default_factory=dict)
    what: dict[str, list[str]] = field(default_factory=dict)

    def assign(self, path: str, name: str, value: str) -> None:
        loader = not path.startswith("/etc/")
        before = self.after.get(path, self.facts.contents.get(path, _ABSENT).or_else(b""))
        syntax = edits.LOADER_CONF if loader else edits.SYSCTL_CONF
        self.after[path] = edits.assign(before, name, value, syntax)
        self.what.setdefault(path, []).append(f"{name}={value}")

    def changes(self) -> Iterator[Change]:
        for path, after in self.after.items():
            before = self.facts.contents.get(path, _ABSENT).value
            if before != after:
                yield Change(
                    f"boot.{path.removeprefix('/etc/').removeprefix('/boot/').replace('/', '.')}",
                    Scope.BOOT,
                    Kind.FILE,
                    f"set {' and '.join(self.what[path])}",
                    FileEdit(path, before, after),
                    "the loader's settings take effect after reboot" if path.startswith("/boot/") else "",
                )


_ABSENT: Attempt[bytes] = Attempt(Outcome.ABSENT)


def _boot(view: _View) -> Iterator[Item]:
    facts = view.facts
    hidden = [
        file
        for file in (*facts.sysctl_conf, *facts.loader_conf, *facts.rc_conf)
        if file.settings.outcome not in (Outcome.RAN, Outcome.ABSENT)
    ]
    for file in hidden:
        yield Obstacle(
            Scope.BOOT, f"{file.path} could not be read ({file.settings.reason})", True, (Remedy("run this as root"),)
        )
    if hidden:
        return
    if view.wishes.on and facts.kernel is None and view.major == 13 and not facts.modules.present:
        yield Obstacle(
            Scope.BOOT,
            f"whether {MODULE} has to be loaded cannot be seen: {_KERNEL} could not be listed ({facts.modules.reason})",
            True,
            (Remedy("install the kernel into this root first, or run this on the booted system"),),
        )
    files = _Files(facts)
    for name, value in view.settings:
        path = _where(view, name, value)
        if path is not None:
            files.assign(path, name, value)
    if view.wishes.on and view.backend_is_module and view.module_at_boot is None:
        standing = [file.path for file in facts.loader_conf if file.values(f"{MODULE}_load")]
        files.assign(standing[-1] if standing else loaderconf.MAIN, f"{MODULE}_load", "YES")
    yield from files.changes()
    yield from _proposals(view)


def _where(view: _View, name: str, value: str) -> str | None:
    """The file that has to say it; None: what stands at boot is so already."""
    standing = view.standing(name)
    if standing is None:
        default = {ENABLE: view.major >= 15, RX_ENABLE: True, MB_USE_EXT_PGS: True}[name]
        # what no release counts on is written down: a release's default is only known by its number
        return None if view.major and default == (value != "0") else SYSCTL_CONF
    if (standing[0] != "0") == (value != "0"):
        return None
    return standing[1]


def _sysrc(view: _View, path: str, what: str) -> str:
    return f"sysrc -f {shlex.quote(below(view.wishes.root, path))} {what}"


def _proposals(view: _View) -> Iterator[Obstacle]:
    """Lines of others that do nothing or do harm: named, not touched."""
    facts = view.facts
    only_loader = ktlsgauges.LOADER_ONLY | ({ktlsgauges.MAXLEN} if view.major >= 14 else frozenset())
    for file in facts.sysctl_conf:
        for setting in file.settings.or_else(()):
            if setting.name in only_loader:
                yield Obstacle(
                    Scope.BOOT,
                    f"{file.path} sets {setting.name}, which only the loader can set: the line does nothing",
                    False,
                    (
                        Remedy(
                            f"move it to {loaderconf.MAIN}, where it takes effect after reboot",
                            _sysrc(view, loaderconf.MAIN, shlex.quote(setting.line)),
                        ),
                    ),
                )
    ignored = sysctl.last(facts.loader_conf, ENABLE)
    if ignored is not None and not view.loader_is_heard:
        yield Obstacle(
            Scope.BOOT,
            f"{ignored[1]} sets {ENABLE}, which FreeBSD 13.0 does not take from the loader",
            False,
            (Remedy("remove the line", _sysrc(view, ignored[1], f"-x {ENABLE}")),),
        )
    stale = view.module_at_boot if not view.backend_is_module and (facts.kernel or facts.modules.present) else None
    names = ((MODULE, stale), ("tls", loaderconf.loads(facts.loader_conf, "tls") or rcconf.loads(facts.rc_conf, "tls")))
    for module, path in names:
        if path is not None:
            why = "it is part of this kernel" if module == MODULE else "that is Linux's module"
            remove = f"-x {module}_load" if path.startswith("/boot/") else f'{rcconf.KLD_LIST}-=" {module}"'
            yield Obstacle(
                Scope.BOOT,
                f"{path} loads {module}, which does not exist here: {why}",
                False,
                (Remedy("remove it", _sysrc(view, path, remove)),),
            )
