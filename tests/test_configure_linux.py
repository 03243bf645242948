# SPDX-License-Identifier: BSD-2-Clause
"""configure/linux.py: the module now, its files at boot, and what others wrote."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ktlsctl.changes import FileEdit, Plan, Scope, Turn, Wishes
from ktlsctl.configure import edits
from ktlsctl.configure.linux import BLOCK_FILE, LOAD_FILE, held_by
from ktlsctl.configure.plan import make
from ktlsctl.facts.modprobe import Directive, only_rules, parse_modprobe
from ktlsctl.model import Direction
from tests.commands import run_cli
from tests.linux_hosts import CONTAINER, DEBIAN12, DEBIAN13, DENIED, SID, WITHOUT_TLS, LinuxHost, unloaded
from tests.trees import tree

ON = Wishes(on=True)
OFF = Wishes(on=False)
BARE = unloaded(DEBIAN13)


def plan(host: LinuxHost, wishes: Wishes = ON) -> Plan:
    return make(host.capture(), wishes).plan


def turns(plan: Plan) -> list[tuple[str, str, str]]:
    return [(c.edit.name, c.edit.before, c.edit.after) for c in plan.changes if isinstance(c.edit, Turn)]


def files(plan: Plan) -> Mapping[str, bytes | None]:
    return {c.edit.path: c.edit.after for c in plan.changes if isinstance(c.edit, FileEdit)}


def blocking(plan: Plan, scope: Scope) -> str:
    return "\n".join(
        f"{o.summary} {' '.join(f'{r.text} {r.command}' for r in o.remedy)}"
        for o in plan.obstacles
        if o.blocking and o.scope is scope
    )


@pytest.mark.parametrize("host", [DEBIAN12, DEBIAN13, SID], ids=["like-debian12", "like-debian13", "like-sid"])
def test_a_bare_kernel_gets_the_module_now_and_a_drop_in_for_boot(host: LinuxHost) -> None:
    wanted = plan(unloaded(host))
    assert turns(wanted) == [("tls", "absent", "loaded")]
    assert files(wanted) == {LOAD_FILE: edits.LOAD_DROP_IN}
    assert wanted.obstacles == ()
    assert turns(plan(unloaded(host), replace(ON, persist=False))) == [("tls", "absent", "loaded")]
    assert files(plan(unloaded(host), replace(ON, persist=False))) == {}
    assert turns(plan(unloaded(host), replace(ON, now=False))) == []


def test_what_is_loaded_and_listed_by_anybody_needs_nothing() -> None:
    for path, text in ((LOAD_FILE, b"tls\n"), ("/usr/lib/modules-load.d/x.conf", b"tls\n"), ("/etc/modules", b"tls\n")):
        assert plan(DEBIAN13.having({path: text})).changes == ()
    assert plan(DEBIAN13.having({"/proc/cmdline": b"quiet modules_load=tls\n"})).changes == ()


def test_the_drop_in_that_somebody_emptied_or_edited_gets_the_line_again() -> None:
    assert files(plan(DEBIAN13.having({LOAD_FILE: b""}))) == {LOAD_FILE: edits.LOAD_DROP_IN}
    assert files(plan(DEBIAN13.having({LOAD_FILE: b"# tls\r\n"}))) == {LOAD_FILE: b"# tls\r\ntls\r\n"}


@pytest.mark.parametrize(
    ("text", "now", "boot"),
    [
        (b"# x\ninstall tls /bin/false\n", True, True),
        (b"# x\nblacklist tls\n", False, True),
        (b"# x\nalias tcp-ulp-tls off\n", False, False),
        (b"# x\nalias tls off\n", True, True),
    ],
)
def test_a_line_of_others_that_blocks_is_named_with_its_command_and_never_edited(
    text: bytes, now: bool, boot: bool
) -> None:
    path = "/etc/modprobe.d/hardening.conf"
    wanted = plan(BARE.having({path: text}))
    assert path not in files(wanted)
    assert (f"{path}:2" in blocking(wanted, Scope.NOW)) == now
    assert (f"sed -i 2d {path}" in blocking(wanted, Scope.BOOT)) == boot
    assert bool(turns(wanted)) != now


def test_the_tools_own_block_is_taken_away_and_foreign_lines_in_its_file_stay() -> None:
    assert files(plan(DEBIAN13.having({BLOCK_FILE: edits.BLOCK_DROP_IN})))[BLOCK_FILE] is None
    mine = edits.BLOCK_DROP_IN + b"options bonding max_bonds=2\n"
    left = files(plan(DEBIAN13.having({BLOCK_FILE: mine})))[BLOCK_FILE]
    assert left is not None
    assert left.endswith(b"options bonding max_bonds=2\n")
    assert parse_modprobe(left, "") == ()


def test_the_kernels_own_locks_block_and_say_what_would_help() -> None:
    assert "no module can be loaded" in blocking(
        plan(BARE.having({"/proc/sys/kernel/modules_disabled": b"1\n"})), Scope.NOW
    )
    listed = plan(BARE.having({"/proc/cmdline": b"module_blacklist=tls\n"}))
    assert "module_blacklist=tls" in blocking(listed, Scope.NOW)
    assert "command line" in blocking(listed, Scope.BOOT)


@pytest.mark.parametrize("wishes", [ON, OFF], ids=["on", "off"])
@pytest.mark.parametrize("host", [WITHOUT_TLS, CONTAINER], ids=["without", "container"])
def test_a_kernel_without_it_and_a_container_are_told_and_left_alone(host: LinuxHost, wishes: Wishes) -> None:
    wanted = plan(host, wishes)
    assert wanted.changes == ()
    assert wanted.blocked(Scope.BOOT)


def test_a_module_that_is_not_installed_blocks_with_the_package() -> None:
    gone = BARE.having({f"/lib/modules/{BARE.release}/modules.dep": b"kernel/net/other.ko:\n"})
    wanted = plan(gone)
    assert turns(wanted) == []
    assert "linux-image-" in blocking(wanted, Scope.NOW)


def test_off_unloads_and_blocks_by_the_alias_alone_so_that_bonding_still_works() -> None:
    wanted = plan(DEBIAN13.having({LOAD_FILE: edits.LOAD_DROP_IN}), OFF)
    assert turns(wanted) == [("tls", "loaded", "absent")]
    assert files(wanted) == {LOAD_FILE: None, BLOCK_FILE: edits.BLOCK_DROP_IN}
    (rule,) = parse_modprobe(edits.BLOCK_DROP_IN, "")
    assert (rule.directive, rule.pattern, rule.argument) == (Directive.ALIAS, "tcp-ulp-tls", "off")
    off = BARE.having({BLOCK_FILE: edits.BLOCK_DROP_IN})
    assert plan(off, OFF).changes == ()


def test_off_is_content_with_a_block_of_others_and_names_a_file_of_others_that_loads() -> None:
    wanted = plan(BARE.having({"/etc/modprobe.d/x.conf": b"blacklist tls\n", "/etc/modules": b"loop\ntls\n"}), OFF)
    assert wanted.changes == ()
    assert "/etc/modules:2" in blocking(wanted, Scope.BOOT)
    assert "sed -i 2d /etc/modules" in blocking(wanted, Scope.BOOT)


def test_a_module_in_use_is_not_unloaded_and_its_holders_are_named_while_the_block_is_written() -> None:
    stat = b"TlsCurrTxSw                     \t2\nTlsCurrRxSw                     \t1\n"
    busy = DEBIAN13.having({"/proc/modules": b"tls 1 4 bonding, Live 0x0\n", "/proc/net/tls_stat": stat})
    wanted = plan(busy, OFF)
    assert turns(wanted) == []
    said = blocking(wanted, Scope.NOW)
    assert "bonding needs it" in said
    assert "3 open sockets use it, 2 of them sending in this network namespace" in said
    assert BLOCK_FILE in files(wanted)


@pytest.mark.parametrize(
    ("needing", "references", "said"),
    [
        ((), 0, ""),
        (("bonding",), 1, "bonding needs it"),
        (("a", "b"), 2, "a, b need it"),
        ((), 1, "1 open socket uses it (ss -tie shows them)"),
        ((), -1, "the kernel was built without unloading of modules"),
    ],
)
def test_who_holds_the_module(needing: tuple[str, ...], references: int, said: str) -> None:
    assert held_by(needing, references, {}) == said


def test_a_built_in_tls_needs_nothing_and_cannot_be_taken_out() -> None:
    config = next(path for path in DEBIAN13.files if "config-" in path)
    text = DEBIAN13.files[config]
    assert isinstance(text, bytes)
    built_in = DEBIAN13.having({"/proc/modules": b"", config: text.replace(b"CONFIG_TLS=m", b"CONFIG_TLS=y")})
    assert plan(built_in).changes == ()
    assert "cannot be taken out" in blocking(plan(built_in, OFF), Scope.NOW)
    assert files(plan(built_in, OFF)) == {}


def test_one_direction_is_not_to_be_had_without_an_interface() -> None:
    wanted = plan(BARE, replace(ON, only=Direction.TX))
    assert wanted.changes == ()
    assert "no switch for one direction" in blocking(wanted, Scope.NOW)


#: available, requested, active, never changed: both TLS features offered and off
OFFERING = [[0b0110, 0, 0, 0]]


def test_offload_is_switched_where_the_driver_offers_it_and_said_to_end_with_the_boot() -> None:
    host = DEBIAN13.having({LOAD_FILE: b"tls\n"}).but(interfaces={"eth0": OFFERING, "lo": [[0, 0, 0, 0]]})
    wanted = plan(host, replace(ON, offload=("eth0",)))
    assert turns(wanted) == [
        ("eth0 tls-hw-tx-offload", "off", "on"),
        ("eth0 tls-hw-rx-offload", "off", "on"),
    ]
    assert any("lasts until the next boot" in o.summary for o in wanted.obstacles)
    assert turns(plan(host, replace(ON, offload=("eth0",), only=Direction.RX))) == [
        ("eth0 tls-hw-rx-offload", "off", "on")
    ]
    assert "driver of lo has none" in blocking(plan(host, replace(ON, offload=("lo",))), Scope.NOW)
    assert "no network interface eth7" in blocking(plan(host, replace(ON, offload=("eth7",))), Scope.NOW)
    assert turns(plan(host, replace(OFF, now=False, persist=False, offload=("eth0",)))) == []


def test_an_unreadable_modprobe_file_blocks_the_boot_part() -> None:
    assert "run this as root" in blocking(plan(BARE.having({"/etc/modprobe.d/x.conf": DENIED})), Scope.BOOT)


# --- another root ---------------------------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    for directory in ("etc/modprobe.d", "usr/lib/modprobe.d", "var/lib"):
        (root / directory).mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    (root / "etc/os-release").write_text('PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n')
    return root


def test_an_image_gets_its_drop_in_and_everything_back(image: Path) -> None:
    before = tree(image)
    assert run_cli("enable", "--root", str(image), "--yes")[0] == 0
    assert (image / LOAD_FILE[1:]).read_bytes() == edits.LOAD_DROP_IN
    assert run_cli("enable", "--root", str(image), "--yes")[0] == 0
    assert run_cli("disable", "--root", str(image), "--yes")[0] == 0
    assert not (image / LOAD_FILE[1:]).exists()
    assert (image / BLOCK_FILE[1:]).read_bytes() == edits.BLOCK_DROP_IN
    assert [run_cli("undo", "--root", str(image), "--yes")[0] for _ in range(3)] == [0, 0, 0]
    assert tree(image) == before


def test_an_images_links_do_not_lead_the_tool_out(image: Path) -> None:
    outside = image.parent / "outside"
    outside.mkdir()
    (image / "etc/modules-load.d").symlink_to(os.path.relpath(outside, image / "etc"))
    assert run_cli("enable", "--root", str(image), "--yes")[0] == 0
    assert list(outside.iterdir()) == []
    assert (image / "outside/ktlsctl.conf").read_bytes() == edits.LOAD_DROP_IN


def test_a_drop_in_that_leads_to_no_ordinary_file_is_an_error_and_not_written_to(image: Path) -> None:
    (image / "dev").mkdir()
    os.mkfifo(image / "dev/null")
    (image / "etc/modules-load.d").mkdir()
    (image / LOAD_FILE[1:]).symlink_to("/dev/null")
    status, out, err = run_cli("enable", "--root", str(image), "--yes")
    assert status in (2, 3), out
    assert "not an ordinary file" in out + err


def test_a_blacklist_in_an_image_is_named(image: Path) -> None:
    (image / "usr/lib/modprobe.d/x.conf").write_text("blacklist tls\n")
    status, out, _ = run_cli("enable", "--root", str(image), "--yes")
    assert status == 1
    assert f"sed -i 1d {image}/usr/lib/modprobe.d/x.conf" in out


def test_two_foreign_lines_of_a_file_are_removed_by_one_command_and_a_continued_line_as_a_whole(
    tmp_path: Path,
) -> None:
    file = tmp_path / "a file.conf"
    text = "options x\nblacklist tls\ninstall tls \\\n  /bin/false\noptions y\nblacklist tls\n"
    file.write_text(text)
    wanted = plan(BARE.having({"/etc/modprobe.d/a file.conf": only_rules(text.encode())}))
    (command,) = [r.command for o in wanted.obstacles if o.scope is Scope.BOOT for r in o.remedy]
    assert command is not None
    assert command.endswith(" '/etc/modprobe.d/a file.conf'")
    subprocess.run(command.replace("/etc/modprobe.d", str(tmp_path)), shell=True, check=True)
    assert file.read_text() == "options x\noptions y\n"


def test_a_continued_line_of_the_tools_own_file_is_taken_away_as_a_whole() -> None:
    text = b"alias tcp-ulp-tls \\\n  off\noptions bonding max_bonds=2\n"
    host = DEBIAN13.having({BLOCK_FILE: text})
    assert files(plan(host))[BLOCK_FILE] == b"options bonding max_bonds=2\n"


def test_off_names_the_kernels_command_line_that_loads_the_module() -> None:
    wanted = plan(BARE.having({"/proc/cmdline": b"quiet modules_load=tls\n"}), OFF)
    assert "modules_load=tls" in blocking(wanted, Scope.BOOT)


def test_off_names_a_foreign_alias_that_defeats_its_block_and_writes_the_block_once() -> None:
    foreign = {"/etc/modprobe.d/x.conf": b"alias tcp-ulp-tls tls\n"}
    wanted = plan(BARE.having(foreign), OFF)
    assert files(wanted) == {BLOCK_FILE: edits.BLOCK_DROP_IN}
    again = plan(BARE.having({**foreign, BLOCK_FILE: edits.BLOCK_DROP_IN}), OFF)
    assert files(again) == {}
    assert "sed -i 1d /etc/modprobe.d/x.conf" in blocking(again, Scope.BOOT)
