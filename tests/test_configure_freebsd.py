# SPDX-License-Identifier: BSD-2-Clause
"""configure/freebsd.py: what each release needs now and at boot, and what it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ktlsctl.changes import Change, FileEdit, Kind, Obstacle, Plan, Scope, Turn, Wishes
from ktlsctl.configure import freebsd
from ktlsctl.configure.plan import NoSystem, about_root, make
from ktlsctl.configure.roots import Root, RootHost
from ktlsctl.host import CapturedHost
from ktlsctl.model import Attempt, Direction, Os, Outcome
from tests.commands import run_cli
from tests.freebsd_hosts import F14_3, F15_1, HOSTS, Kernel
from tests.trees import tree

ON = Wishes(on=True)
OFF = Wishes(on=False)
ENABLE = "kern.ipc.tls.enable"


def plan(kernel: Kernel, wishes: Wishes) -> Plan:
    return make(kernel.host(), wishes).plan


def turns(plan: Plan) -> list[tuple[str, str, str]]:
    return [(c.edit.name, c.edit.before, c.edit.after) for c in plan.changes if isinstance(c.edit, Turn)]


def files(plan: Plan) -> Mapping[str, bytes | None]:
    return {c.edit.path: c.edit.after for c in plan.changes if isinstance(c.edit, FileEdit)}


def blocking(plan: Plan) -> list[str]:
    return [o.summary for o in plan.obstacles if o.blocking]


def notes(plan: Plan) -> str:
    return "\n".join(o.summary + "".join(f" {r.text} {r.command}" for r in o.remedy) for o in plan.obstacles)


def test_13_needs_its_backend_loaded_now_and_by_the_loader() -> None:
    wanted = plan(HOSTS["13.2"], ON)
    assert turns(wanted) == [("ktls_ocf", "absent", "loaded")]
    assert files(wanted) == {"/boot/loader.conf": b'ktls_ocf_load="YES"\n'}
    (boot,) = [c for c in wanted.changes if c.scope is Scope.BOOT]
    assert "after reboot" in boot.note


def test_13_with_its_backend_is_as_wanted() -> None:
    assert plan(HOSTS["13.2-ktls_ocf"], ON).changes == ()


def test_14_is_turned_on_by_one_sysctl_now_and_one_line_at_boot() -> None:
    wanted = plan(F14_3, ON)
    assert turns(wanted) == [(ENABLE, "0", "1")]
    assert files(wanted) == {"/etc/sysctl.conf": b"kern.ipc.tls.enable=1\n"}
    assert plan(HOSTS["14.3-on"], ON).changes == ()


def test_15_is_on_by_default_and_gets_no_line() -> None:
    assert plan(HOSTS["15.0"], ON).changes == ()
    assert plan(F15_1, ON).changes == ()


def test_a_line_that_turns_it_off_is_changed_where_it_stands() -> None:
    text = "# mine\nkern.ipc.tls.enable=0 # trouble\n"
    for path in ("/etc/sysctl.conf", "/etc/sysctl.conf.local"):
        wanted = plan(replace(F15_1, files={path: text}), ON)
        assert files(wanted) == {path: b"# mine\nkern.ipc.tls.enable=1 # trouble\n"}
    loader = {"/boot/loader.conf": 'kern.ipc.tls.enable="0"\n'}
    assert files(plan(replace(F14_3, files=loader), ON)) == {"/boot/loader.conf": b'kern.ipc.tls.enable="1"\n'}


def test_13_0_does_not_hear_the_loader() -> None:
    host = replace(HOSTS["13.0"], module_loaded=True, files={"/boot/loader.conf": 'kern.ipc.tls.enable="1"\n'})
    wanted = plan(host, ON)
    assert files(wanted)["/etc/sysctl.conf"] == b"kern.ipc.tls.enable=1\n"
    assert "13.0 does not take from the loader" in notes(wanted)


def test_sending_is_mended_where_it_was_turned_off_and_takes_effect_after_reboot() -> None:
    wanted = plan(HOSTS["14.3-no-ext-pgs"], ON)
    assert turns(wanted) == [("kern.ipc.mb_use_ext_pgs", "0", "1")]
    assert files(wanted) == {"/boot/loader.conf": b'kern.ipc.mb_use_ext_pgs="1"\n'}
    assert "after reboot" in wanted.changes[-1].note


def test_receiving_is_mended() -> None:
    wanted = plan(HOSTS["15.1-p4-no-rx"], ON)
    assert turns(wanted) == [("kern.ipc.tls.rx_enable", "0", "1")]
    assert files(wanted) == {"/etc/sysctl.conf": b"kern.ipc.tls.rx_enable=1\n"}


def test_sending_alone_and_receiving_off_where_there_is_a_switch() -> None:
    wanted = plan(F15_1, replace(ON, only=Direction.TX))
    assert turns(wanted) == [("kern.ipc.tls.rx_enable", "1", "0")]
    assert files(wanted) == {"/etc/sysctl.conf": b"kern.ipc.tls.rx_enable=0\n"}
    assert turns(plan(F15_1, replace(OFF, only=Direction.RX))) == [("kern.ipc.tls.rx_enable", "1", "0")]


@pytest.mark.parametrize(
    ("kernel", "wishes", "why"),
    [
        (F15_1, replace(ON, only=Direction.RX), "none for sending alone"),
        (F15_1, replace(OFF, only=Direction.TX), "none for sending alone"),
        (F14_3, replace(ON, only=Direction.TX), "FreeBSD-SA-26:67"),
        (HOSTS["14.3-custom-kernel"], ON, "KERN_TLS"),
        (HOSTS["15.0-jail"], ON, "jail"),
        (HOSTS["15.0-jail"], OFF, "jail"),
    ],
)
def test_what_the_system_cannot_do_is_said_and_changes_nothing(kernel: Kernel, wishes: Wishes, why: str) -> None:
    wanted = plan(kernel, wishes)
    assert wanted.changes == ()
    assert all(why in text for text in blocking(wanted))
    assert {o.scope for o in wanted.obstacles} == {Scope.NOW, Scope.BOOT}


def test_cbc_stays_as_the_administrator_has_it() -> None:
    wanted = plan(replace(HOSTS["14.3-on"], cbc_enable=False), ON)
    assert wanted.changes == ()
    assert "sysctl kern.ipc.tls.cbc_enable=1" in notes(wanted)
    assert blocking(wanted) == []


def test_off_now_and_at_boot_and_again_changes_nothing() -> None:
    wanted = plan(HOSTS["14.3-on"], OFF)
    assert turns(wanted) == [(ENABLE, "1", "0")]
    assert files(wanted) == {"/etc/sysctl.conf": b"kern.ipc.tls.enable=0\n"}
    off = {"/etc/sysctl.conf": "kern.ipc.tls.enable=0\n"}
    assert plan(replace(F14_3, files=off), OFF).changes == ()
    # 14's default is off: no line is needed
    assert plan(F14_3, OFF).changes == ()
    assert files(plan(F15_1, OFF)) == {"/etc/sysctl.conf": b"kern.ipc.tls.enable=0\n"}


@pytest.mark.parametrize(
    ("path", "text", "command"),
    [
        ("/boot/loader.conf", 'ktls_ocf_load="YES"\n', "sysrc -f /boot/loader.conf -x ktls_ocf_load"),
        ("/boot/loader.conf", 'tls_load="YES"\n', "sysrc -f /boot/loader.conf -x tls_load"),
        ("/etc/rc.conf", 'kld_list="ktls_ocf"\n', 'sysrc -f /etc/rc.conf kld_list-=" ktls_ocf"'),
        ("/etc/sysctl.conf", "kern.ipc.tls.bind_threads=1\n", "after reboot"),
        ("/etc/sysctl.conf", "kern.ipc.tls.maxlen=8192\n", "after reboot"),
    ],
)
def test_stale_and_deaf_lines_of_others_are_named_and_not_touched(path: str, text: str, command: str) -> None:
    wanted = plan(replace(HOSTS["15.0"], files={path: text}), ON)
    assert files(wanted) == {}
    assert command in notes(wanted)
    assert blocking(wanted) == []


def test_nics_are_left_to_ifconfig() -> None:
    wanted = plan(HOSTS["15.0-arm64-nic"], replace(ON, offload=("mce0",)))
    assert "ifconfig mce0 txtls rxtls" in notes(wanted)


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("wishes", [ON, OFF], ids=["on", "off"])
def test_carrying_out_the_plan_of_any_host_leaves_nothing_to_plan(name: str, wishes: Wishes) -> None:
    kernel = HOSTS[name]
    wanted = plan(kernel, wishes)
    assert all(isinstance(item, Change | Obstacle) for item in (*wanted.changes, *wanted.obstacles))
    done = dict(kernel.files)
    for path, content in files(wanted).items():
        assert content is not None
        done[path] = content.decode()
    kernel = replace(kernel, files=done)
    for what, _, value in turns(wanted):
        field = {"ktls_ocf": "module_loaded", "kern.ipc.mb_use_ext_pgs": "ext_pgs"}.get(what, what.rpartition(".")[2])
        kernel = replace(kernel, **{field: value in ("1", "loaded")})  # type: ignore[arg-type]
    assert plan(kernel, wishes).changes == ()


# --- another root ---------------------------------------------------------------------------------------------------

#: As an installation has them (usr.sbin/bsdinstall, sbin/sysctl/sysctl.conf, bin/freebsd-version).
SYSCTL_CONF = (
    "#\n#  This file is read when going to multi-user and its contents piped thru\n"
    "#  ``sysctl'' to adjust kernel values.  ``man 5 sysctl.conf'' for details.\n#\n\n"
    "# Uncomment this to prevent users from seeing information about processes that\n"
    "# are being run under another UID.\n#security.bsd.see_other_uids=0\nvfs.zfs.min_auto_ashift=12\n"
)
LOADER_CONF = (
    'kern.geom.label.disk_ident.enable="0"\nkern.geom.label.gptid.enable="0"\ncryptodev_load="YES"\nzfs_load="YES"\n'
)


def installed(path: Path, release: str, *, module: bool) -> Path:
    for directory in ("bin", "etc", "boot/kernel", "boot/loader.conf.d", "var/db"):
        (path / directory).mkdir(parents=True)
    (path / "bin/freebsd-version").write_text(f'#!/bin/sh\n\nset -e\n\nUSERLAND_VERSION="{release}"\n')
    (path / "etc/os-release").symlink_to("../var/run/os-release")
    (path / "etc/sysctl.conf").write_text(SYSCTL_CONF)
    (path / "boot/loader.conf").write_text(LOADER_CONF)
    (path / "etc/rc.conf").write_text('hostname="image"\nzfs_enable="YES"\n')
    (path / "boot/kernel/kernel").write_bytes(b"\x7fELF")
    if module:
        (path / "boot/kernel/ktls_ocf.ko").write_bytes(b"\x7fELF")
    return path


EDITED = {
    "13.2-RELEASE-p11": (SYSCTL_CONF + "kern.ipc.tls.enable=1\n", LOADER_CONF + 'ktls_ocf_load="YES"\n'),
    "14.3-RELEASE": (SYSCTL_CONF + "kern.ipc.tls.enable=1\n", LOADER_CONF),
    "15.0-RELEASE-p14": (SYSCTL_CONF, LOADER_CONF),
    "15.1-RELEASE": (SYSCTL_CONF, LOADER_CONF),
}


@pytest.mark.parametrize("release", EDITED)
def test_an_image_of_each_release_gets_exactly_its_lines_and_everything_back(tmp_path: Path, release: str) -> None:
    root = installed(tmp_path / "root", release, module=release.startswith("13"))
    before = tree(root)
    changes = EDITED[release] != (SYSCTL_CONF, LOADER_CONF)
    status, out, _ = run_cli("enable", "--root", str(root))
    assert status == int(changes), out
    assert tree(root) == before
    status, out, err = run_cli("enable", "--root", str(root), "--yes")
    assert (status, err) == (0, ""), out
    assert ((root / "etc/sysctl.conf").read_text(), (root / "boot/loader.conf").read_text()) == EDITED[release]
    assert run_cli("enable", "--root", str(root))[0] == 0
    assert (root / "var/db/ktlsctl/journal/1.json").exists() == changes
    assert run_cli("disable", "--root", str(root), "--yes")[0] == 0
    off = (root / "etc/sysctl.conf").read_text()
    assert off == SYSCTL_CONF + "kern.ipc.tls.enable=0\n"
    while run_cli("history", "--root", str(root))[1].count(" done ") > 0:
        assert run_cli("undo", "--root", str(root), "--yes")[0] == 0
    assert tree(root) == before


def test_a_13_image_without_the_module_file_is_not_told_to_load_it(tmp_path: Path) -> None:
    root = installed(tmp_path / "root", "13.2-RELEASE", module=False)
    assert run_cli("enable", "--root", str(root), "--yes")[0] == 0
    assert (root / "boot/loader.conf").read_text() == LOADER_CONF


@pytest.mark.parametrize("absent", [False, True])
def test_a_13_image_without_a_kernel_is_told_that_its_backend_cannot_be_seen(tmp_path: Path, absent: bool) -> None:
    root = installed(tmp_path / "root", "13.2-RELEASE", module=True)
    if absent:
        (root / "boot/kernel").rename(root / "boot/kernel.old")
    status, out, _ = run_cli("enable", "--root", str(root), "--yes")
    assert (status, "whether ktls_ocf has to be loaded cannot be seen" in " ".join(out.split())) == (absent, absent)


@pytest.mark.parametrize(
    ("release", "has"),
    [
        ("14.3-RELEASE-p20", False),
        ("14.4-RELEASE-p9", False),
        ("14.4-RELEASE-p10", True),
        ("14.5-RELEASE", False),
        ("14.6-RELEASE", True),
        ("15.0-RELEASE-p14", True),
        ("15.1-RELEASE-p3", False),
        ("15.1-RELEASE-p4", True),
        ("15.1-STABLE", True),
        ("13.5-RELEASE-p9", False),
    ],
)
def test_an_image_whose_kernel_has_no_switch_for_receiving_is_told_so(tmp_path: Path, release: str, has: bool) -> None:
    root = installed(tmp_path / "root", release, module=False)
    status, out, _ = run_cli("disable", "--rx-only", "--root", str(root))
    assert status == (1 if has else 2)
    assert ("this kernel has no kern.ipc.tls.rx_enable" in out) is not has
    assert (f"freebsd-update -b {root} fetch install" in out) is not has


def test_an_upgraded_image_that_still_loads_the_module_is_told_of_the_stale_line(tmp_path: Path) -> None:
    root = installed(tmp_path / "root", "14.3-RELEASE", module=False)
    with (root / "boot/loader.conf").open("a") as file:
        file.write('ktls_ocf_load="YES"\n')
    _, out, _ = run_cli("enable", "--root", str(root))
    assert f"sysrc -f {root}/boot/loader.conf -x ktls_ocf_load" in out


def test_a_linked_sysctl_conf_stays_a_link_and_leads_nowhere_outside(tmp_path: Path) -> None:
    root = installed(tmp_path / "root", "14.3-RELEASE", module=False)
    outside = tmp_path / "sysctl.conf"
    outside.write_text("outside\n")
    (root / "etc/sysctl.conf").unlink()
    (root / "etc/sysctl.conf").symlink_to("../../../sysctl.conf")
    assert run_cli("enable", "--root", str(root), "--yes")[0] == 0
    assert outside.read_text() == "outside\n"
    assert (root / "etc/sysctl.conf").is_symlink()
    assert (root / "sysctl.conf").read_text() == "kern.ipc.tls.enable=1\n"


@pytest.mark.parametrize(("release", "major"), [("13.2-RELEASE-p1", 13), ("15.0-CURRENT", 15), ("", 0), ("x" * 9, 0)])
def test_an_images_release_is_read_from_its_script(tmp_path: Path, release: str, major: int) -> None:
    root = Root(str(installed(tmp_path / "root", release, module=False)))
    about = about_root(root)
    assert about.os is Os.FREEBSD
    facts = freebsd.gather(RootHost(root, about), running=False)
    assert freebsd._View(facts, about, ON).major == major
    root.close()


def test_a_directory_that_holds_no_system_is_refused(tmp_path: Path) -> None:
    root = Root(str(tmp_path))
    with pytest.raises(NoSystem, match="neither a Linux nor a FreeBSD"):
        about_root(root)
    root.close()
    status, _, err = run_cli("enable", "--root", str(tmp_path))
    assert status == 3
    assert "neither a Linux nor a FreeBSD" in err


def test_an_unreadable_boot_file_blocks_the_boot_part_alone() -> None:
    said = F14_3.said()
    said["read", "/boot/loader.conf"] = Attempt(Outcome.DENIED, reason="Permission denied")
    wanted = make(CapturedHost(F14_3.about, said, otherwise=Outcome.ABSENT), ON).plan
    assert [c.kind for c in wanted.changes] == [Kind.SYSCTL]
    assert wanted.blocked(Scope.BOOT)
    assert not wanted.blocked(Scope.NOW)
