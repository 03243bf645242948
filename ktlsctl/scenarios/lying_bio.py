# SPDX-License-Identifier: BSD-2-Clause
"""lying-bio: what becomes of a program whose own BIO claims success for BIO_CTRL_SET_KTLS without doing anything.

PostgreSQL's server and libpq up to 17 are such programs: their read and write functions stand on OpenSSL's socket BIO,
whose ctrl function says yes (src/backend/libpq/be-secure-openssl.c, src/interfaces/libpq/fe-secure-openssl.c).
"""

from __future__ import annotations

from dataclasses import dataclass

from ktlsctl.model import Evidence, Status
from ktlsctl.scenarios.judgement import Judgement, fine, known
from ktlsctl.sessionfacts import Carried

ADVISORY = "openssl.lying-bio"
_LEAK = ", and what it sent was plaintext, which went out as it was"


@dataclass(frozen=True, slots=True)
class Facts:
    """`asked`: how often the library offered its keys to the BIO.  `failure`: what the connection died of, empty when
    data went through; `honest_failure` the same with a BIO that answers no."""

    asked: int
    failure: str
    honest_failure: str
    leaked: bool


def judge(facts: Facts) -> Judgement:
    evidence: Evidence = {
        "asked": facts.asked,
        "with_a_lying_bio": facts.failure or "data goes through",
        "with_an_honest_bio": facts.honest_failure or "data goes through",
        "plaintext_given_to_it": facts.leaked,
    }
    if not facts.asked:
        return fine("this library never asks its BIO: none can lie", Carried(), evidence=evidence)
    if not facts.failure and not facts.leaked:
        return fine("it goes through: what was claimed is not used for this version", Carried(), evidence=evidence)
    # No defect of this host: it is what a program with such a BIO meets on it.
    return known(
        Status.OK,
        "a program whose own BIO claims kernel TLS cannot connect with it on (PostgreSQL and libpq up to 17)",
        f"{facts.failure or 'data goes through'}{_LEAK if facts.leaked else ''}; "
        "never turn kernel TLS on for the whole library where such a program uses it",
        (ADVISORY,),
        Carried(),
        evidence=evidence,
    )
