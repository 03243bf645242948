# SPDX-License-Identifier: BSD-2-Clause
"""The editor of openssl.cnf: real libraries do what it says, and the way back leads to the same bytes."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ktlsctl.child import Probe, Running
from ktlsctl.facts import opensslcnf
from ktlsctl.host import CapturedHost, LiveHost
from ktlsctl.model import About, Attempt, Os, Outcome
from ktlsctl.opensslcnf_edit import MARK, NO_FILES, OPTION, Edited, Obstacle, Refused, disable_ktls, enable_ktls
from tests.elsewhere import linux_only
from tests.libssls import SYSTEM, Oracle, from_wheel

WAY = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n"

DEBIAN = (
    "HOME = .\nopenssl_conf = openssl_init\nconfig_diagnostics = 1\n"
    "[ new_oids ]\ntsa_policy1 = 1.2.3.4.1\n[openssl_init]\n# providers = provider_sect\n[rr]\ncmd = rr\n"
)
UBUNTU = (
    "openssl_conf = openssl_init\n[openssl_init]\nssl_conf = ssl_sect\n[ssl_sect]\n"
    "system_default = system_default_sect\n"
    "[system_default_sect]\nCipherString = DEFAULT:@SECLEVEL=2\n\n[tsa]\nx = y\n"
)
#: RHEL's: what system_default leads to stands in a file of crypto-policies, which also opens other sections
RHEL = (
    "openssl_conf = openssl_init\n[openssl_init]\nssl_conf = ssl_module\n[ ssl_module ]\n"
    "system_default = crypto_policy\n"
    "[ crypto_policy ]\n\n.include = {folder}/policy\n\n[ ca ]\ndefault_ca = CA_default\n"
)
POLICY = "CipherString = @SECLEVEL=2:kEECDH\nOptions = NoRenegotiation\n[evp_properties]\nx = y\n"


def host(files: Mapping[str, str]) -> CapturedHost:
    answers = {("read", name): Attempt.ran(content.encode()) for name, content in files.items()}
    return CapturedHost(About(Os.LINUX, "6.1", "x86_64", True), answers, Outcome.ABSENT)


def enabled(text: str | bytes, **files: str) -> bytes:
    content = text.encode() if isinstance(text, str) else text
    found = enable_ktls(content, "/c", host(files) if files else NO_FILES)
    assert isinstance(found, Edited), found
    return found.content


@pytest.fixture(scope="module", params=[None, pytest.param("psycopg2-binary", marks=linux_only)])
def library(request: pytest.FixtureRequest) -> str:
    """The system's, and a wheel's."""
    return SYSTEM if request.param is None else from_wheel(request.param)


@pytest.fixture(scope="module")
def oracle(library: str) -> Iterator[Oracle]:
    with Oracle(library) as oracle:
        yield oracle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("etc")
    (folder / "policy").write_text(POLICY)
    return folder


# ---- what real libraries say


PIECES = [
    *("openssl_conf = a", "openssl_conf = z", "default::openssl_conf = a", "[default]", "[a]", "[ a ]", "ssl_conf = b"),
    *("ssl_conf.1 = b", "ssl = b", "[b]", "system_default = c", "system_default = d", "b::system_default = c", "[c]"),
    *("[d]", "Options = KTLS", "Options = -KTLS", "x.Options = KTLS", "x.Options = -KTLS", "c::Options = KTLS"),
    *(
        "Options = Bogus,KTLS",
        "Options = ServerPreference,KTLS",
        "options = -SessionTicket , +ktls",
        "x.y.Options = KTLS",
    ),
    *(
        "Options = KTLSTxZerocopySendfile,KTLS",
        'Options = "KTLS"',
        "Options = K\\TLS",
        "'Options = KTLS'",
        "Options = \\",
    ),
    *(
        "KTLS",
        "MinProtocol = TLSv1.2",
        "",
        "# comment",
        "# comment \\",
        "k = KTLS",
        "Options = $k",
        "Options = ${c::k}",
    ),
    *("s = c", "system_default = $s", "[$s]", "q = $nothing", "q = $(k", "q = a # b", "nginx = n", "[n]", "junk"),
    *(
        "unknown = b",
        ".pragma = dollarid:on",
        "k$ = KTLS",
        ".include",
        ".include = /nonexistent",
        "\N{KELVIN SIGN}TLS = é",
    ),
    *(".include = {folder}/policy", "ktlsctl.Options = KTLS", "ktlsctl.Options = -KTLS", "[ktlsctl_default]", "\ufeff"),
]
PROLOGUES = ["", "", WAY, WAY + "[c]\n", DEBIAN, UBUNTU, RHEL, WAY + "[c]\nMinProtocol = TLSv1.2\n"]
TEXTS = st.builds(
    lambda before, lines, eol, end: (before + "\n".join(lines) + end).replace("\n", eol),
    st.sampled_from(PROLOGUES),
    st.lists(st.sampled_from(PIECES), max_size=10),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["\n", ""]),
)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS)
@example(DEBIAN)
@example(UBUNTU)
@example(RHEL)
@example("")
def test_the_opinion_on_a_file_is_the_librarys_before_and_after_the_edit(
    oracle: Oracle, folder: Path, text: str
) -> None:
    content = text.replace("{folder}", str(folder)).encode()
    bom = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
    file = folder / "openssl.cnf"

    def real(bytes_: bytes) -> tuple[bool | None, bool | None]:
        file.write_bytes(bytes_)
        return oracle.wants(file)

    host = LiveHost()
    server, client = real(content)
    reading = opensslcnf.explain(opensslcnf.configuration(content, str(file), host, whole=True))
    if "Zerocopy" in text:
        # 3.0 does not know that option
        assert server or not reading.everywhere
    else:
        assert (reading.on or False) is (server or False)
    assert client or not reading.everywhere
    on, off = enable_ktls(content, str(file), host), disable_ktls(content, str(file), host)
    if isinstance(on, Edited):
        # a library that is told to be strict makes no context of a configuration with other mistakes
        assert real(on.content) == (True, True) or (server is None and real(on.content) == (None, None))
        assert enable_ktls(on.content, str(file), host) == Edited(on.content)
        kept = [x for x in on.content[len(bom) :].splitlines(keepends=True) if not x.rstrip().endswith(MARK.encode())]
        assert bom + b"".join(kept).rstrip(b"\r\n") == content.rstrip(b"\r\n")
        if not reading.on:
            assert disable_ktls(on.content, str(file), host) == Edited(content)
    if isinstance(off, Edited):
        assert not real(off.content)[0]
    elif off.obstacle is Obstacle.OWN_LINE:
        assert server or "Zerocopy" in text


@pytest.mark.parametrize("text", [DEBIAN, UBUNTU, RHEL, "", WAY, WAY + "[c]\nOptions = -KTLS\nx = y"])
@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_what_distributions_ship_is_switched_on_and_back_to_the_same_bytes(
    text: str, eol: str, oracle: Oracle, folder: Path
) -> None:
    file = folder / "shipped.cnf"
    content = text.replace("{folder}", str(folder)).replace("\n", eol).encode()
    on = enable_ktls(content, str(file), LiveHost())
    assert isinstance(on, Edited)
    file.write_bytes(on.content)
    assert oracle.wants(file) == (True, True)
    assert disable_ktls(on.content, str(file), LiveHost()) == Edited(content)


def test_this_machines_own_file_is_switched_on_and_back_to_the_same_bytes(oracle: Oracle, folder: Path) -> None:
    content = Path("/etc/ssl/openssl.cnf").read_bytes()
    file = folder / "own.cnf"
    on = enable_ktls(content, str(file), LiveHost())
    assert isinstance(on, Edited)
    file.write_bytes(on.content)
    assert oracle.wants(file) == (True, True)
    assert disable_ktls(on.content, str(file), LiveHost()) == Edited(content)


def test_a_library_is_asked_about_a_file_that_it_does_not_use_yet(library: str, tmp_path: Path) -> None:
    def wants(config: Path | None) -> dict[str, object]:
        argument = {"path": library, "config": None if config is None else str(config)}
        said = Running(Probe("ktlsctl.libsslprobe:wants", argument, 20.0)).answer().value
        assert isinstance(said, dict)
        return said

    good, broken = tmp_path / "good.cnf", tmp_path / "broken.cnf"
    good.write_bytes(enabled(DEBIAN))
    broken.write_text("config_diagnostics = 1\n" + WAY)
    assert wants(good) == {"server": True, "client": True, "fault": None, "detail": ""}
    assert wants(None)["server"] is False
    assert wants(broken)["fault"] == "configuration"


# ---- where the lines go


def test_an_options_line_of_the_administrator_is_kept_and_added_to() -> None:
    text = WAY + "[c]\nOptions = -SessionTicket # policy 7\n\n[d]\nx = y\n"
    assert enabled(text) == text.replace("policy 7\n", f"policy 7\nktlsctl.Options = KTLS  {MARK}\n").encode()


def test_debians_file_gets_the_way_that_it_lacks() -> None:
    assert (
        enabled(DEBIAN)
        == (
            DEBIAN.replace("[openssl_init]\n", f"[openssl_init]\nssl_conf = ktlsctl_ssl  {MARK}\n")
            + f"[ktlsctl_ssl]  {MARK}\nsystem_default = ktlsctl_default  {MARK}\n"
            + f"[ktlsctl_default]  {MARK}\nktlsctl.Options = KTLS  {MARK}\n"
        ).encode()
    )


def test_a_policy_in_an_included_file_is_added_to_from_the_file_that_includes_it() -> None:
    files = {"/p": POLICY}
    text = RHEL.replace("{folder}/policy", "/p")
    found = enable_ktls(text.encode(), "/c", host(files))
    assert isinstance(found, Edited)
    assert (
        found.content
        == text.replace("[ crypto_policy ]\n", f"[ crypto_policy ]\nktlsctl.Options = KTLS  {MARK}\n").encode()
    )
    assert found.notes == ("[crypto_policy] stands in /p too, which is not touched",)


def test_a_section_that_stands_only_in_an_included_file_is_opened_again_at_the_end() -> None:
    text = ".include = /p\n[z]\nx = y\n"
    assert enabled(text, **{"/p": WAY + "[c]\nx.Options = -KTLS\n"}).decode() == (
        text + f"[c]  {MARK}\nktlsctl.Options = KTLS  {MARK}\n"
    )


def test_a_section_that_is_named_but_missing_is_made() -> None:
    assert enabled(WAY).decode() == WAY + f"[c]  {MARK}\nktlsctl.Options = KTLS  {MARK}\n"


def test_a_line_that_switches_it_off_is_overridden_and_named() -> None:
    found = enable_ktls((WAY + "[c]\nz.Options = -KTLS\n").encode(), "/c")
    assert isinstance(found, Edited)
    assert found.notes == ("it overrides `z.Options = -KTLS` at /c:7, which switches kTLS off",)


def test_a_list_that_only_servers_understand_is_not_enough() -> None:
    text = WAY + "[c]\nOptions = ServerPreference,KTLS\n"
    assert enabled(text) == (text + f"ktlsctl.Options = KTLS  {MARK}\n").encode()


def test_sections_that_lie_unused_do_not_come_to_life() -> None:
    text = "[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nMinProtocol = TLSv1.3\n"
    assert enabled(text).startswith(f"openssl_conf = ktlsctl_init  {MARK}\n[a]\n".encode())


def test_a_file_of_bytes_that_are_no_utf8_keeps_them() -> None:
    content = b"\xef\xbb\xbfcity = M\xfcnchen\n" + WAY.encode()
    assert enabled(content) == content + f"[c]  {MARK}\nktlsctl.Options = KTLS  {MARK}\n".encode()


def test_where_there_is_no_file_one_is_made_and_nothing_left_of_it() -> None:
    found = enable_ktls(None, "/c")
    assert isinstance(found, Edited)
    assert found.content.endswith(f"ktlsctl.Options = KTLS  {MARK}\n".encode())
    assert disable_ktls(found.content, "/c") == Edited(b"")
    assert disable_ktls(None, "/c") == Edited(b"")


def test_lines_that_were_added_to_our_sections_survive_the_way_back() -> None:
    content = enabled(DEBIAN) + b"MinProtocol = TLSv1.2\n"
    found = disable_ktls(content, "/c")
    assert isinstance(found, Edited)
    assert found.content == content.replace(f"ktlsctl.Options = KTLS  {MARK}\n".encode(), b"")


@pytest.mark.parametrize("since", ["what is this\n", ".include relative.cnf\n", "x = $nothing\n"])
def test_the_way_out_stays_open_whatever_was_written_since(since: str) -> None:
    content = enabled(DEBIAN)
    found = disable_ktls(content + since.encode(), "/c")
    assert isinstance(found, Edited)
    assert OPTION.encode() not in found.content
    assert found.content.startswith(DEBIAN.partition("[openssl_init]")[0].encode())
    assert since.encode() in found.content
    assert bool(found.notes) is ("include" in since)


# ---- what is refused


@pytest.mark.parametrize(
    ("text", "files", "obstacle", "where", "why"),
    [
        (WAY + "[c]\nwhat\n", {}, Obstacle.UNPARSABLE, "/c:7", "OpenSSL cannot parse this line"),
        (WAY + ".include /p\n", {"/p": "x = ${y\n"}, Obstacle.UNPARSABLE, "/p:1", "OpenSSL cannot parse this line"),
        (WAY + "x = \0\n", {}, Obstacle.UNPARSABLE, "/c:6", "NUL byte"),
        (WAY + ".include local.cnf\n", {}, Obstacle.UNSEEN, "/c", "it includes local.cnf, which cannot be followed"),
        ("openssl_conf = $ENV::MINE\n", {}, Obstacle.UNSEEN, "/c:1", "depends on the environment"),
        (WAY + "x = y \\", {}, Obstacle.NO_PLACE, "/c:6", "its last line is not complete"),
        (WAY + "x = y\r", {}, Obstacle.NO_PLACE, "/c:6", "its last line is not complete"),
        (WAY.replace("[a]", "[a]\nmine = m"), {}, Obstacle.NO_PLACE, "/c", "`mine =` at /c:3 is no module"),
        (
            WAY + "nginx = n\n[c]\nx = y\n",
            {},
            Obstacle.NO_PLACE,
            "/c",
            "nginx names the section [n]",
        ),
    ],
)
def test_what_cannot_be_done_safely_is_refused_with_its_place(
    text: str, files: dict[str, str], obstacle: Obstacle, where: str, why: str
) -> None:
    found = enable_ktls(text.encode(), "/c", host(files))
    assert isinstance(found, Refused)
    assert (found.obstacle, found.where) == (obstacle, where)
    assert why in found.why
    assert found.proposal


def test_an_include_that_this_user_may_not_read_is_refused() -> None:
    answers: dict[tuple[str, str], Attempt[object]] = {("read", "/p"): Attempt(Outcome.DENIED, reason="no")}
    denied = CapturedHost(About(Os.LINUX, "6.1", "x86_64", False), answers, Outcome.ABSENT)
    found = enable_ktls((WAY + ".include /p\n").encode(), "/c", denied)
    assert isinstance(found, Refused)
    assert found.obstacle is Obstacle.UNSEEN


@pytest.mark.parametrize(
    ("text", "files", "where"),
    [
        (WAY + "[c]\nOptions = Bugs,KTLS\n", {}, "/c:7"),
        (WAY + "[c]\n.include /p\n", {"/p": "\nmine.Options = KTLS\n"}, "/p:2"),
        (WAY + f"[c]\nktlsctl.Options = KTLS  {MARK}\nOptions = KTLS\n", {}, "/c:8"),
    ],
)
def test_a_line_of_the_administrators_own_is_named_and_not_taken_away(
    text: str, files: dict[str, str], where: str
) -> None:
    found = disable_ktls(text.encode(), "/c", host(files))
    assert isinstance(found, Refused)
    assert (found.obstacle, found.where) == (Obstacle.OWN_LINE, where)


@settings(max_examples=200)
@given(st.one_of(st.binary(max_size=200), TEXTS.map(str.encode)))
def test_any_bytes_get_an_answer(content: bytes) -> None:
    for edit in (enable_ktls, disable_ktls):
        found = edit(content, "/c")
        assert isinstance(found, Edited | Refused)
        if isinstance(found, Edited):
            again = edit(found.content, "/c")
            assert isinstance(again, Edited)
            assert again.content == found.content
