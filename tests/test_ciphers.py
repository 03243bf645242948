# SPDX-License-Identifier: BSD-2-Clause
"""ciphers.bulk_cipher: the cipher in a suite's name, held against OpenSSL's own account of each suite."""

from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktlsctl.ciphers import SUITES, Suite, bulk_cipher


def told(enc: str, bits: str, mac: str) -> str:
    """The table's name for what `openssl ciphers -v` says in its columns Enc and Mac."""
    if enc.startswith("CHACHA20"):
        return "CHACHA20-POLY1305"
    family, mode, tag = re.fullmatch(r"([A-Za-z]+?)(GCM|CCM)?(8)?", enc).groups()  # type: ignore[union-attr]
    if mode is None:
        return f"{family.upper()}-{bits}-CBC-{mac}"
    return "-".join(part for part in (family, bits, mode, tag) if part)


def offered() -> list[tuple[str, str]]:
    """Every suite of the system's OpenSSL that needs no more than a certificate, and its bulk cipher."""
    said = subprocess.run(
        ["openssl", "ciphers", "-v", "ALL:@SECLEVEL=0"], capture_output=True, text=True, check=True
    ).stdout
    found = []
    for line in said.splitlines():
        name, _version, exchange, authentication, enc, mac = line.split()[:6]
        if "PSK" in exchange or "SRP" in exchange or authentication in ("Au=None", "Au=PSK", "Au=SRP"):
            continue
        cipher = re.fullmatch(r"Enc=(.+)\((\d+)\)", enc)
        assert cipher is not None, line
        found.append((name, told(cipher[1], cipher[2], mac.removeprefix("Mac="))))
    return found


def test_every_suite_that_the_system_offers_has_the_cipher_that_openssl_says() -> None:
    suites = offered()
    assert len(suites) > 20
    assert {name: bulk_cipher(name) for name, _ in suites} == dict(suites)


@pytest.mark.parametrize("suite", SUITES, ids=lambda s: s.name)
def test_the_name_and_the_table_of_suites_say_the_same(suite: Suite) -> None:
    assert bulk_cipher(suite.name) == suite.cipher


@pytest.mark.parametrize(
    ("name", "cipher"),
    [
        ("TLS_SM4_GCM_SM3", "SM4-GCM"),
        ("TLS_SM4_CCM_SM3", "SM4-CCM"),
        ("ECDHE-ARIA256-GCM-SHA384", "ARIA-256-GCM"),
        ("DHE-RSA-CAMELLIA256-SHA256", "CAMELLIA-256-CBC-SHA256"),
        ("AES256-CCM8", "AES-256-CCM-8"),
    ],
)
def test_suites_that_a_table_may_not_have_are_read_too(name: str, cipher: str) -> None:
    assert bulk_cipher(name) == cipher


def test_a_suite_that_nobody_knows_is_its_own_cipher() -> None:
    assert bulk_cipher("GOST2012-KUZNYECHIK-KUZNYECHIKOMAC") == "GOST2012-KUZNYECHIK-KUZNYECHIKOMAC"


@given(st.text())
def test_any_name_has_an_answer_and_an_empty_one_only_if_it_is_empty(name: str) -> None:
    assert bool(bulk_cipher(name)) == bool(name)
