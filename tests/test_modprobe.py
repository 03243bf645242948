# SPDX-License-Identifier: BSD-2-Clause
"""modprobe.d and modules-load.d are read as kmod and systemd read them."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ktlsctl.facts import modprobe
from ktlsctl.facts.modprobe import CommandLine, Directive
from ktlsctl.host import COMMAND_PATH
from tests.linux_hosts import DENIED, LinuxHost


def rules(content: bytes, path: str = "/etc/modprobe.d/a.conf"):
    return modprobe.parse_modprobe(content, path)


def configured(files, **directories):
    return modprobe.read_configured(LinuxHost("6.1", files, **directories).capture())


@pytest.mark.parametrize(
    ("content", "directive", "argument"),
    [
        (b"blacklist tls", Directive.BLACKLIST, ""),
        (b"blacklist\ttls trailing words", Directive.BLACKLIST, ""),
        (b"install tls /bin/false", Directive.INSTALL, "/bin/false"),
        (b"install t* /bin/true --flag", Directive.INSTALL, "/bin/true --flag"),
        (b"alias tcp-ulp-tls off", Directive.ALIAS, "off"),
        (b"alias tcp_ulp_tls off", Directive.ALIAS, "off"),
        (b"alias tcp-ulp-* off", Directive.ALIAS, "off"),
        (b"alias tls off", Directive.ALIAS, "off"),
        (b"install \\\n  tls \\\n /bin/false", Directive.INSTALL, "/bin/false"),
        (b"  blacklist tls", Directive.BLACKLIST, ""),
    ],
)
def test_a_rule_that_concerns_the_module_is_seen(content, directive, argument) -> None:
    (rule,) = rules(content)
    assert (rule.directive, rule.argument) == (directive, argument)


@pytest.mark.parametrize(
    "content",
    [
        b"# blacklist tls",
        b"#blacklist tls",
        b"  # blacklist tls",
        b"# a comment that goes on \\\nblacklist tls",
        b"blacklist tls_device",
        b"blacklist t*",  # blacklists take no patterns
        b"install xtls /bin/false",
        b"install tls",
        b"alias tcp-ulp-mptcp off",
        b"options tls x=1",
        b"softdep tls pre: gcm",
        b"remove tls /bin/false",
        b"include /etc/modprobe.d/other.conf",
        b"blacklist",
        b"BLACKLIST tls",
        b"blacklist tls\r",
    ],
)
def test_what_kmod_ignores_is_ignored(content) -> None:
    assert rules(content) == ()


def test_a_rule_knows_its_line() -> None:
    (rule,) = rules(b"# one\n\noptions x \\\n y=1\ninstall tls \\\n /bin/false\n")
    assert rule.where == "/etc/modprobe.d/a.conf:5"


def test_an_earlier_directory_masks_a_later_file_of_the_same_name() -> None:
    found = configured(
        {
            "/etc/modprobe.d/a.conf": b"",
            "/lib/modprobe.d/a.conf": b"blacklist tls\n",
            "/usr/lib/modprobe.d/b.conf": b"blacklist tls\n",
            "/lib/modprobe.d/b.conf": b"install tls /bin/false\n",
        }
    )
    assert [rule.where for rule in found.rules] == ["/usr/lib/modprobe.d/b.conf:1"]


def test_files_are_taken_in_the_order_of_their_names_whatever_the_directory() -> None:
    found = configured({"/etc/modprobe.d/z.conf": b"install tls /z\n", "/lib/modprobe.d/a.conf": b"install tls /a\n"})
    assert [rule.argument for rule in found.rules] == ["/a", "/z"]


def test_files_with_other_names_do_not_count() -> None:
    found = configured(
        {"/etc/modprobe.d/a.conf.bak": b"blacklist tls\n", "/etc/modprobe.d/.a.conf": b"blacklist tls\n"}
    )
    assert found.rules == ()


def test_what_cannot_be_read_is_kept_as_such() -> None:
    found = configured({"/etc/modprobe.d/a.conf": DENIED}, directories={"/run/modprobe.d": DENIED})
    assert [unread.path for unread in found.unread] == ["/run/modprobe.d", "/etc/modprobe.d/a.conf"]


# --- what the rules amount to ---


def test_a_blacklist_holds_for_the_alias_only() -> None:
    blocks = modprobe.in_force(rules(b"blacklist tls\n"))
    assert (len(blocks.by_name), len(blocks.by_alias)) == (0, 1)


def test_an_install_command_that_loads_the_module_blocks_nothing() -> None:
    blocks = modprobe.in_force(rules(b"install tls /sbin/modprobe --ignore-install tls; logger loaded\n"))
    assert (blocks.by_name, blocks.by_alias) == ((), ())
    assert len(blocks.custom) == 1


def test_the_first_install_command_is_the_one_that_runs() -> None:
    blocks = modprobe.in_force(rules(b"install tls modprobe -i tls\ninstall tls /bin/false\n"))
    assert blocks.by_name == ()


def test_an_alias_that_also_leads_to_the_module_blocks_nothing() -> None:
    assert modprobe.in_force(rules(b"alias tcp-ulp-tls off\nalias tcp-ulp-tls tls\n")).by_alias == ()


def test_an_alias_of_the_name_stops_loading_by_name() -> None:
    blocks = modprobe.in_force(rules(b"alias tls off\n"))
    assert (len(blocks.by_name), len(blocks.by_alias)) == (1, 0)


def module_file(modinfo: bytes) -> bytes:
    """The least that depmod takes for a module: an ELF object with a .modinfo section."""
    names = b"\0.modinfo\0.shstrtab\0"
    sections = [bytes(64)]
    body = modinfo + names
    for name, start, size in ((1, 64, len(modinfo)), (10, 64 + len(modinfo), len(names))):
        kind = 1 if name == 1 else 3
        sections.append(struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, start, size, 0, 0, 1, 0))
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, 3, 2)
    return header + body + b"".join(sections)


@pytest.fixture(scope="module")
def module_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one release whose only module is called tls and serves the ULP's alias."""
    root = tmp_path_factory.mktemp("root")
    directory = root / "lib" / "modules" / "1.0"
    (directory / "kernel").mkdir(parents=True)
    (directory / "kernel" / "tls.ko").write_bytes(module_file(b"alias=tcp-ulp-tls\0alias=tls\0license=GPL\0"))
    (directory / "modules.builtin").write_text("")
    (directory / "modules.order").write_text("kernel/tls.ko\n")
    subprocess.run(["depmod", "-b", root, "1.0"], check=True, env={"PATH": COMMAND_PATH})
    assert "alias tcp-ulp-tls tls" in (directory / "modules.alias").read_text()
    return root


@pytest.mark.skipif(shutil.which("depmod", path=COMMAND_PATH) is None, reason="kmod is not installed")
@pytest.mark.parametrize(
    ("content", "by_name", "by_alias"),
    [
        (b"", True, True),
        (b"blacklist tls\n", True, False),
        (b"install tls /bin/false\n", False, False),
        (b"install t?s /bin/false\n", False, False),
        (b"alias tcp-ulp-tls off\n", True, False),
        (b"alias tcp_ulp_* off\n", True, False),
        (b"alias tls off\n", False, True),
        (b"alias tcp-ulp-tls off\nalias tcp-ulp-tls tls\n", True, True),
        (b"# install tls /bin/false\n", True, True),
        (b"install \\\ntls /bin/false\n", False, False),
        (b"blacklist t*\n", True, True),
    ],
)
def test_kmod_itself_agrees(module_tree: Path, tmp_path: Path, content: bytes, by_name: bool, by_alias: bool) -> None:
    """`modprobe -n -v` of the machine the tests run on, over a module directory made up for it."""
    configuration = tmp_path / "a.conf"
    configuration.write_bytes(content)

    def loads(*arguments: str) -> bool:
        command = ["modprobe", "-n", "-v", "-d", str(module_tree), "-S", "1.0", "-C", str(configuration), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": COMMAND_PATH})
        return "insmod" in done.stdout

    blocks = modprobe.in_force(rules(content))
    assert loads("tls") is by_name
    assert (not blocks.by_name) is by_name
    # what the kernel has its helper ask for
    assert loads("tcp-ulp-tls") is by_alias
    installs = any(rule.directive is Directive.INSTALL for rule in blocks.by_name)
    assert (not blocks.by_alias and not installs) is by_alias


# --- at boot, command line, locks ---


def test_modules_to_load_at_boot_are_found_with_their_line() -> None:
    files = {
        "/etc/modules-load.d/a.conf": b"# tls\n; tls\nloop\n tls \n",
        "/lib/modules-load.d/a.conf": b"tls\n",  # masked
        "/usr/lib/modules-load.d/b.conf": b"tlsx\n",
        "/etc/modules": b"loop\ntls\n",
    }
    at_boot = modprobe.read_at_boot(LinuxHost("6.1", files).capture())
    assert at_boot.files == ("/etc/modules-load.d/a.conf:4", "/etc/modules:2")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"root=/dev/vda1 quiet", CommandLine()),
        (b"module_blacklist=foo,tls quiet", CommandLine(module_blacklist=True)),
        (b"module-blacklist=tls", CommandLine(module_blacklist=True)),
        (b"module_blacklist=tls module_blacklist=foo", CommandLine()),
        (b"modprobe.blacklist=tls modprobe.blacklist=foo", CommandLine(modprobe_blacklist=True)),
        (b'modules_load="tls"', CommandLine(modules_load=True)),
        (b"module_blacklist=tls_device", CommandLine()),
    ],
)
def test_the_command_line_is_read_as_its_readers_read_it(text, expected) -> None:
    assert modprobe.parse_command_line(text) == expected


def test_nothing_else_of_the_command_line_is_kept() -> None:
    assert modprobe.only_module_parameters(b"password=x module_blacklist=tls") == b"module_blacklist=tls"


def test_lockdown_is_the_marked_word() -> None:
    assert modprobe.parse_lockdown("none [integrity] confidentiality") == "integrity"
    assert modprobe.parse_lockdown("") == ""


WORDS = st.sampled_from(
    [*b"blacklist install alias tls tcp-ulp-tls off # [ ] * ! - \\".split(), b" ", b"\t", b"\n", b"\\\n"]
)
TEXT = st.binary() | st.lists(WORDS | st.binary(max_size=3)).map(b"".join)


@given(TEXT)
@example(b"alias [ off\nalias [z-a] off\nalias [!] off\ninstall \\")
def test_arbitrary_bytes_break_no_parser_and_the_kept_part_says_the_same(content) -> None:
    found = rules(content)
    assert rules(modprobe.only_rules(content)) == found
    modprobe.in_force(found)
    lines = modprobe.parse_modules_load(content)
    assert modprobe.parse_modules_load(modprobe.keep_load_lines(content)) == lines
    kept = modprobe.parse_command_line(modprobe.only_module_parameters(content))
    assert kept == modprobe.parse_command_line(content)
    modprobe.parse_lockdown(content.decode("utf-8", "replace"))
