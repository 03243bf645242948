# SPDX-License-Identifier: BSD-2-Clause
"""What a reboot will take away, and what boot files say in vain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ktlsctl import sysctl
from ktlsctl.facts import ktlsgauges, loaderconf, rcconf
from ktlsctl.freebsd_findings.remedies import default_of_enable, load_at_boot, major, persisted_by, setting
from ktlsctl.freebsd_findings.situation import MB_USE_EXT_PGS, MODULE, MODULE_FILE, Seen, needs_kernel
from ktlsctl.model import Check, Evidence, Link, Outcome, Remedy, Status


def persistence(seen: Seen) -> Check:
    """freebsd.persistence: what the next boot does to what works now."""
    identity, link = "freebsd.persistence", Link.MODULE
    if not seen.node:
        return needs_kernel(identity, link, "what is set at boot", seen)
    if seen.jailed:
        why = "the boot files that count are those of the jail's host"
        return Check(identity, link, Status.SKIP, "what is set at boot is not visible from inside a jail", why)
    facts = seen.facts
    files = (*facts.sysctl_conf, *facts.loader_conf, *facts.rc_conf)
    evidence: Evidence = {
        file.path: tuple(setting.line for setting in file.settings.or_else(())) for file in files if file.settings.value
    }
    lost = (*_settings_that_turn(seen), *_enable_is_lost(seen), *_module_is_lost(seen))
    notes = (*lost, *_ignored_lines(seen), *_stale_lines(seen))
    reason = "; ".join(note.text for note in notes)
    remedy = tuple(r for note in notes for r in note.remedy)
    if lost:
        return Check(identity, link, Status.WARNING, "a reboot will take away what works now", reason, evidence, remedy)
    if hidden := _hidden(files):
        why = "; ".join(f"{f.path}: {f.settings.reason}" for f in hidden)
        return Check(
            identity, link, Status.UNKNOWN, "what is set at boot could not be read", why, evidence,
            (Remedy("run the check as root"),),
        )  # fmt: skip
    if seen.flag(ktlsgauges.ENABLE) and seen.at_boot(ktlsgauges.ENABLE) is None:
        reason = "; ".join(filter(None, (_left_to_default(seen), reason)))
        if major(seen.about.release) is None:
            summary = f"unknown whether {ktlsgauges.ENABLE} stays on: it is left to the release's default"
            return Check(identity, link, Status.UNKNOWN, summary, reason, evidence, (_keep_enabled(), *remedy))
        summary = f"{ktlsgauges.ENABLE} is left to the release's default"
        return Check(identity, link, Status.OK, summary, reason, evidence, remedy)
    return Check(identity, link, Status.OK, "boot files do not contradict what is set now", reason, evidence, remedy)


def _hidden(files: Iterable[sysctl.ConfFile]) -> list[sysctl.ConfFile]:
    return [file for file in files if file.settings.outcome not in (Outcome.RAN, Outcome.ABSENT)]


@dataclass(frozen=True, slots=True)
class _Note:
    text: str
    remedy: tuple[Remedy, ...] = ()


def _keep_enabled() -> Remedy:
    line = sysctl.Setting(ktlsgauges.ENABLE, "1").line
    return Remedy("keep it on after a reboot", f"echo '{line}' >> {sysctl.FREEBSD_CONF[0]}")


def _left_to_default(seen: Seen) -> str:
    return f"no boot file sets {ktlsgauges.ENABLE}; {default_of_enable(seen.about.release)}"


def _settings_that_turn(seen: Seen) -> tuple[_Note, ...]:
    """Settings that are on now and that a boot file will turn off."""
    found = []
    for name in (ktlsgauges.ENABLE, ktlsgauges.RX_ENABLE, MB_USE_EXT_PGS):
        standing = seen.at_boot(name)
        if seen.flag(name) and standing is not None and standing[0] == "0":
            found.append(_Note(f"{standing[1]} sets {name}=0, which is 1 now", setting(name, "1", seen)[1:]))
    return tuple(found)


def _enable_is_lost(seen: Seen) -> tuple[_Note, ...]:
    """`enable` was set by hand where the default is 0, before 15; 13.0: or in the loader's file and nowhere else."""
    name = ktlsgauges.ENABLE
    if not seen.flag(name) or seen.at_boot(name) is not None:
        return ()
    loader = sysctl.last(seen.facts.loader_conf, name)
    if seen.is_13_0 and loader is not None:
        text = f"{loader[1]} sets {name}, which a 13.0 kernel does not take from the loader"
        return (_Note(text, setting(name, "1", seen)[1:]),)
    release = major(seen.about.release)
    files = (*seen.facts.sysctl_conf, *seen.facts.loader_conf)
    if release is None or release >= 15 or _hidden(files):
        return ()
    return (_Note(_left_to_default(seen), (_keep_enabled(),)),)


def _module_is_lost(seen: Seen) -> tuple[_Note, ...]:
    if not (seen.module_loaded and seen.backend) or persisted_by(seen) is not None:
        return ()
    return (_Note(f"{MODULE_FILE} was loaded by hand: no boot file names it", load_at_boot(seen)),)


def _ignored_lines(seen: Seen) -> tuple[_Note, ...]:
    """Lines in sysctl.conf that the kernel takes from the loader only (CTLFLAG_RDTUN)."""
    only_loader = ktlsgauges.LOADER_ONLY
    if seen.is_14_or_later:
        only_loader = only_loader | {ktlsgauges.MAXLEN}  # RWTUN on 13.x, RDTUN from 14.0 on
    return tuple(
        _Note(
            f"{file.path} sets {setting.name}, which only the loader can set: the line does nothing",
            (Remedy(f"move the line to {loaderconf.MAIN}", f"sysrc -f {loaderconf.MAIN} {setting.line}"),),
        )
        for file in seen.facts.sysctl_conf
        for setting in file.settings.or_else(())
        if setting.name in only_loader
    )


def _stale_lines(seen: Seen) -> tuple[_Note, ...]:
    """Lines that load what is not there: harmless, but the boot complains about them."""
    facts = seen.facts
    notes = []
    if seen.backend and not seen.module_loaded and facts.files.present:
        why = f"the backend is part of this kernel since 14.0, {MODULE_FILE} does not exist any more"
        if path := loaderconf.loads(facts.loader_conf, MODULE):
            remedy = Remedy("remove the stale line", f"sysrc -f {path} -x {MODULE}_load")
            notes.append(_Note(f"{path} loads {MODULE}: {why}", (remedy,)))
        if path := rcconf.loads(facts.rc_conf, MODULE):
            remedy = Remedy("remove the stale name", f'sysrc -f {path} {rcconf.KLD_LIST}-=" {MODULE}"')
            notes.append(_Note(f"{path} loads {MODULE}: {why}", (remedy,)))
    if path := loaderconf.loads(facts.loader_conf, "tls"):
        remedy = Remedy("remove the line", f"sysrc -f {path} -x tls_load")
        notes.append(_Note(f"{path} loads tls: that is Linux's module, FreeBSD has none of that name", (remedy,)))
    if path := rcconf.loads(facts.rc_conf, "tls"):
        remedy = Remedy("remove the name", f'sysrc -f {path} {rcconf.KLD_LIST}-=" tls"')
        notes.append(_Note(f"{path} loads tls: that is Linux's module, FreeBSD has none of that name", (remedy,)))
    return tuple(notes)
