# SPDX-License-Identifier: BSD-2-Clause
"""lying-bio: what a BIO that claims kernel TLS does to its program.  A real PostgreSQL server is in the lab's tests."""

from __future__ import annotations

import pytest

from ktlsctl.model import Finding, Status
from ktlsctl.scenarios.lying_bio import ADVISORY, Facts, judge
from ktlsctl.sessionfacts import Way
from tests.elsewhere import linux_only
from tests.libssls import from_wheel
from tests.trials import judged_here


def test_a_connection_that_dies_is_known_names_the_programs_and_the_way_out_and_is_no_alarm() -> None:
    found = judge(Facts(2, "wrong version number", "", False))
    assert (found.status, found.finding, found.known) == (Status.OK, Finding.KNOWN, (ADVISORY,))
    assert "PostgreSQL" in found.summary
    assert "never turn kernel TLS on for the whole library" in found.reason


def test_plaintext_that_goes_out_is_said() -> None:
    assert "plaintext" in judge(Facts(2, "", "", True)).reason


def test_a_library_that_never_asks_has_nothing_to_fear() -> None:
    assert judge(Facts(0, "", "", False)).finding is Finding.FINE


def test_a_lie_without_a_consequence_is_fine() -> None:
    assert judge(Facts(1, "", "", False)).finding is Finding.FINE


def test_this_systems_library_believes_the_lie_in_both_versions() -> None:
    """The library's own behaviour: no kernel has a part in it."""
    for result in judged_here("lying-bio", Way.SOCKET):
        assert result.known == (ADVISORY,), result
        assert result.evidence["with_an_honest_bio"] == "data goes through"
        assert result.evidence["asked"]


@linux_only
@pytest.mark.parametrize("wheel", ["psycopg2-binary"])
def test_a_library_built_without_kernel_tls_never_asks(wheel: str) -> None:
    for result in judged_here("lying-bio", Way.SOCKET, from_wheel(wheel)):
        assert (result.finding, result.evidence["asked"]) == (Finding.FINE, 0)
