# SPDX-License-Identifier: BSD-2-Clause
"""The reader of openssl.cnf: that it explains what the library really does, and that no secret passes its filter."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.child import Probe, Running
from ktlsctl.facts import opensslcnf
from ktlsctl.facts.opensslcnf import Configuration, Effect, Reading
from ktlsctl.host import CapturedHost, LiveHost
from ktlsctl.model import About, Attempt, Os, Outcome
from tests.libssls import SYSTEM

WAY = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n"


def read(path: str, **files: str | bytes) -> Configuration:
    """The configuration `path` of a host that has only these files."""
    answers = {
        ("read", name): Attempt.ran(content.encode() if isinstance(content, str) else content)
        for name, content in files.items()
    }
    host = CapturedHost(About(Os.LINUX, "6.1", "x86_64", True), answers, Outcome.ABSENT)
    found = opensslcnf.read(host, path).value
    assert found is not None
    return found


def explained(text: str) -> Reading:
    return opensslcnf.explain(read("/c", **{"/c": text}))


#: Text of a configuration whose end decides, and what becomes of the last line that names KTLS.
CASES = {
    "the plain line": (WAY + "[c]\nOptions = KTLS\n", True),
    "the last of two lines replaces the first": (WAY + "[c]\nOptions = KTLS\nOptions = SessionTicket\n", False),
    "the last of two lines counts": (WAY + "[c]\nOptions = SessionTicket\nOptions = KTLS\n", True),
    "a labelled line adds to the others": (WAY + "[c]\nktlsctl.Options = KTLS\nOptions = SessionTicket\n", True),
    "a labelled line can switch it off": (WAY + "[c]\nOptions = KTLS\nx.Options = -KTLS\n", False),
    "a label ends at its first dot": (WAY + "[c]\nx.y.Options = KTLS\n", False),
    "an unknown option ends the list": (WAY + "[c]\nOptions = Bogus,KTLS\n", False),
    "an empty item ends the list": (WAY + "[c]\nOptions = ,KTLS\n", False),
    "what stands before an unknown option counts": (WAY + "[c]\nOptions = KTLS,Bogus\n", True),
    "an unknown option ends only its own line": (WAY + "[c]\nOptions = Bogus\nx.Options = KTLS\n", True),
    "names of options have no case": (WAY + "[c]\noptions = -SessionTicket,+ktls\n", True),
    "values may be quoted": (WAY + '[c]\nOptions = "KTLS"\n', True),
    "comments end a value": (WAY + "[c]\nOptions = KTLS # since June\n", True),
    "a comment is not read": (WAY + "[c]\n# Options = KTLS\n", False),
    "a line may be continued": (WAY + "[c]\nOptions = SessionTicket,\\\n  KTLS\n", True),
    "sections of one name are one": (WAY + "[c]\nMinProtocol = TLSv1.2\n[d]\nx = 1\n[c]\nOptions = KTLS\n", True),
    "a section may be named at the line": (WAY + "c::Options = KTLS\n", True),
    "blanks around a section's name": (WAY + "[ c ]\nOptions = KTLS\n", True),
    "the last way counts": ("openssl_conf = z\n" + WAY + "[c]\nOptions = KTLS\n", True),
    "a missing section": (WAY + "[d]\nOptions = KTLS\n", False),
    "an empty section": (WAY + "[c]\n[d]\nOptions = KTLS\n", False),
    "no ssl_conf, as in Debian's file": (
        "openssl_conf = a\n[a]\nproviders = p\n[p]\nx = y\n[c]\nOptions = KTLS\n",
        False,
    ),
    "no openssl_conf": (WAY.partition("\n")[2] + "[c]\nOptions = KTLS\n", False),
    "the way has case": ("OpenSSL_conf" + WAY.removeprefix("openssl_conf") + "[c]\nOptions = KTLS\n", False),
    "another program's section": (
        WAY + "nginx = n\n[n]\nOptions = KTLS\n[c]\nMinProtocol = TLSv1.2\n",
        False,
    ),
    "a line that cannot be parsed": (WAY + "[c]\nOptions = KTLS\nwhat is this\n", False),
    "a pragma is no such line": (".pragma = abspath:true\n" + WAY + "[c]\nOptions = KTLS\n", True),
    "an include in the section": (WAY + "[c]\n.include {folder}/plain.cnf\n", True),
    "an include with equals": (WAY + "[c]\n.include = {folder}/plain.cnf\n", True),
    "an include of a directory": (WAY + "[c]\n.include {folder}/folder\n", True),
    "an include that is missing": (WAY + "[c]\nOptions = KTLS\n.include {folder}/nothing.cnf\n", True),
    "a variable": ("k = KTLS\n" + WAY + "[c]\nOptions = $k\n", True),
    "a variable of another section": (WAY + "[k]\nk = KTLS\n[c]\nOptions = SessionTicket,${k::k}\n", True),
    "a variable on the way": ("s = c\n" + WAY.replace("= c", "= $(s)") + "[c]\nOptions = KTLS\n", True),
    "a header has no variables": ("s = c\n" + WAY + "[$s]\nOptions = KTLS\n", False),
    "a dollar that is no variable": (".pragma = dollarid:on\n" + WAY + "[c]\nOptions = Bogus$k,KTLS\n", False),
    "a brace that is not closed": (WAY + "[c]\nx.Options = KTLS\nOptions = ${k\n", False),
    "quotes and escapes in the middle": (WAY + "[c]\nOptions = K'TL'\\S\n", True),
    "a module may be written with a number": (
        WAY.replace("\nssl_conf", "\nssl_conf.1") + "[c]\nOptions = KTLS\n",
        True,
    ),
    "what is no module ends the loading": (
        WAY.replace("\nssl_conf", "\nmine = x\nssl_conf") + "[c]\nOptions = KTLS\n",
        False,
    ),
    "behind the way it does not matter": (WAY.replace("= b\n", "= b\nmine = x\n") + "[c]\nOptions = KTLS\n", True),
    "one application without its section": (WAY + "nginx = n\n[c]\nOptions = KTLS\n", False),
    "an include by the name of a directory pragma": (
        ".pragma = includedir:{folder}\n" + WAY + "[c]\n.include plain.cnf\n",
        True,
    ),
    "a section stays open behind an include": (WAY + ".include {folder}/section.cnf\nOptions = KTLS\n", False),
}


@pytest.mark.parametrize("case", CASES)
def test_the_reader_explains_what_the_library_does(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, on = CASES[case]
    (tmp_path / "plain.cnf").write_text("Options = KTLS\n")
    (tmp_path / "section.cnf").write_text("[c]\nMinProtocol = TLSv1.2\n[elsewhere]\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.cnf").write_text("Options = KTLS\n")
    (tmp_path / "folder" / "b.txt").write_text("Options = -KTLS\n")
    file = tmp_path / "openssl.cnf"
    file.write_text(text.replace("{folder}", str(tmp_path)))
    monkeypatch.setenv("OPENSSL_CONF", str(file))
    said = Running(Probe("tests.libssls:option", SYSTEM, 20.0)).answer()
    assert said.value is on, said.reason
    configuration = opensslcnf.read(LiveHost(), str(file)).value
    assert configuration is not None
    assert (opensslcnf.explain(configuration).on or False) is on


@pytest.mark.parametrize(
    ("text", "effect", "why"),
    [
        (WAY + "[c]\nOptions = KTLS\n", Effect.ON, ""),
        (WAY + "[c]\nOptions = -KTLS\n", Effect.OFF, ""),
        (WAY + "[c]\nOptions = KTLS\nOptions = Bugs\n", Effect.REPLACED, "a later `Options =` line in [c] replaces it"),
        (WAY + "[c]\nOptions = Bogus, KTLS\n", Effect.STOPPED, "bogus before it is no option"),
        (WAY + "[d]\nOptions = KTLS\n[c]\nx = y\n", Effect.UNREACHED, "it stands in [d], and programs read [c]"),
        (WAY + "n = d\n[d]\nOptions = KTLS\n[c]\nx = y\n", Effect.APPLICATION, "asks for `n`"),
        ("[c]\nOptions = KTLS\n", Effect.UNREACHED, "no `openssl_conf =` line before the first section"),
        ("openssl_conf = a\n[a]\nx = y\n[c]\nOptions = KTLS\n", Effect.UNREACHED, "no `ssl_conf =` line in [a]"),
        ("openssl_conf = q\n[c]\nOptions = KTLS\n", Effect.UNREACHED, "[q], which is empty or missing"),
        (WAY + "[c]\nOptions = KTLS\n???\n", Effect.UNREACHED, "/c:8 cannot be parsed"),
    ],
)
def test_a_line_without_effect_says_why(text: str, effect: Effect, why: str) -> None:
    (line,) = explained(text).lines
    assert line.effect is effect
    assert why in line.why


def test_a_line_is_found_where_an_editor_finds_it() -> None:
    (line,) = explained("# one\n\n" + WAY + "[c]\nCipherString = a:\\\nb\nOptions = KTLS\n").lines
    assert (line.line.file, line.line.number) == ("/c", 11)


def test_an_include_that_cannot_be_followed_is_named() -> None:
    found = read("/c", **{"/c": ".include relative.cnf\n.include /loop\n", "/loop": ".include /loop\n"})
    assert found.unread == ("relative.cnf", "/loop")


def test_an_include_with_a_nul_byte_is_no_path_to_open() -> None:
    assert opensslcnf.configuration(b".include /a\0b\n", "/c", LiveHost(), whole=True).unread == ("/a\0b",)


def test_a_file_that_includes_itself_many_times_comes_to_an_end() -> None:
    found = read("/c", **{"/c": ".include /c\n" * 50})
    assert found.unread


def test_variables_of_variables_do_not_fill_the_memory() -> None:
    text = "a = " + "x" * 60000 + "\n" + "b = $a\n" * 200
    assert opensslcnf.configuration(text.encode(), "/c", read_nothing(), whole=True).damage


def test_what_only_servers_or_new_releases_understand_is_not_on_everywhere() -> None:
    for options, everywhere in (("KTLS", True), ("ServerPreference,KTLS", None), ("-KTLS", False)):
        assert explained(WAY + f"[c]\nOptions = {options}\n").everywhere is everywhere
    assert explained(WAY + "[c]\nOptions = KTLSTxZerocopySendfile,KTLS\n").everywhere is None


def test_a_variable_without_a_value_is_noticed_where_nothing_is_withheld() -> None:
    text = (WAY + "[c]\nOptions = KTLS\n[d]\nPIN = $nothing\n").encode()
    assert opensslcnf.configuration(text, "/c", read_nothing(), whole=True).damage == "/c:9"


def read_nothing() -> CapturedHost:
    return CapturedHost(About(Os.LINUX, "6.1", "x86_64", True), {}, Outcome.ABSENT)


def test_secrets_do_not_pass_the_filter() -> None:
    text = (
        WAY
        + "[c]\nOptions = KTLS\n[pkcs11]\nPIN = 4711\ninit_args = pw=hunter2 \\\n  and more\nOptions = s3cret\njunk\n"
    )
    kept = opensslcnf.keep_relevant(text.encode())
    for secret in (b"4711", b"hunter2", b"more", b"s3cret", b"junk"):
        assert secret not in kept
    assert explained(kept.decode()).lines == explained(text).lines


def test_a_host_that_may_not_read_the_file_says_so() -> None:
    answers: dict[tuple[str, str], Attempt[object]] = {
        ("read", "/c"): Attempt(Outcome.DENIED, reason="Permission denied")
    }
    host = CapturedHost(About(Os.LINUX, "6.1", "x86_64", False), answers, Outcome.ABSENT)
    assert opensslcnf.read(host, "/c").outcome is Outcome.DENIED


WORDS = r"""[c] [ ] \ = :: .include /c Options KTLS , - # " ' . openssl_conf ssl_conf system_default a [a] $x é"""
PIECES = st.sampled_from([*WORDS.split(), " ", "\n", "\\\n", "[a]\n", "\0", "\r\n"])


@given(st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=30).map(lambda p: "".join(p).encode())))
def test_any_bytes_are_read_and_the_filter_changes_nothing_that_is_explained(content: bytes) -> None:
    kept = opensslcnf.keep_relevant(content)
    assert opensslcnf.keep_relevant(kept) == kept
    whole, filtered = read("/c", **{"/c": content}), read("/c", **{"/c": kept})
    assert opensslcnf.explain(filtered) == opensslcnf.explain(whole)
    assert len(kept) <= 3 * len(content) + 8
    assert os.path.basename(filtered.path) == "c"
