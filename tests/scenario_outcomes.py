# SPDX-License-Identifier: BSD-2-Clause
"""What every scenario finds on every lab host, over either datapath: measured there, and held to by the lab's tests."""

from __future__ import annotations

from tests.lab import DEBIAN12, DEBIAN13, HOSTS, SID

#: status, finding, ids of the advisories that were proved
Outcome = tuple[str, str, tuple[str, ...]]

FINE: Outcome = ("ok", "fine", ())
_VERSIONS = ("TLSv1.2", "TLSv1.3")


def _everywhere(scenario: str, versions: tuple[str, ...] = _VERSIONS) -> dict[tuple[str, str, str], Outcome]:
    return {(scenario, version, host.name): FINE for version in versions for host in HOSTS}


def _on(host: str, scenario: str, outcome: Outcome) -> dict[tuple[str, str, str], Outcome]:
    return {(scenario, version, host): outcome for version in _VERSIONS}


_CORRUPTS: Outcome = ("critical", "known", ("openssl.moving-write-buffer",))
_CORRUPTS_LATE: Outcome = ("ok", "known", ("openssl.moving-write-buffer-late",))

_HANGS: Outcome = ("warning", "known", ("linux.sendfile-short-buffer",))

#: A kernel that refused a record sends no alert; OpenSSL 3.0 receives TLS 1.3 in user space.
_NO_ALERT: Outcome = ("ok", "known", ("openssl.alert-after-bad-record",))

_LIES: Outcome = ("ok", "known", ("openssl.lying-bio",))

#: (scenario, version, host)
OUTCOMES: dict[tuple[str, str, str], Outcome] = {
    **_everywhere("bulk"),
    **_everywhere("short-buffers"),
    **_on(DEBIAN12.name, "moving-write-buffer", _CORRUPTS),
    **_on(DEBIAN13.name, "moving-write-buffer", _CORRUPTS_LATE),
    **_on(SID.name, "moving-write-buffer", _CORRUPTS_LATE),
    **_everywhere("sendfile"),
    **_on(DEBIAN12.name, "sendfile", _HANGS),
    **_everywhere("early-data", ("TLSv1.3",)),
    **_everywhere("records"),
    ("key-update", "TLSv1.3", DEBIAN12.name): ("warning", "known", ("openssl.keyupdate-wrong-key",)),
    ("key-update", "TLSv1.3", DEBIAN13.name): ("warning", "known", ("openssl.keyupdate-fatal",)),
    ("key-update", "TLSv1.3", SID.name): ("warning", "known", ("linux.rekey-poll-stall",)),
    **{("corruption", version, host.name): _NO_ALERT for version in _VERSIONS for host in HOSTS},
    ("corruption", "TLSv1.3", DEBIAN12.name): FINE,
    **_everywhere("reset"),
    **_everywhere("read-ahead"),
    **_everywhere("limits"),
    ("limits", "TLSv1.3", DEBIAN12.name): ("warning", "known", ("openssl.padding-ignored",)),
    **_everywhere("many", ("TLSv1.2",)),
    **_everywhere("handover"),
    **{("lying-bio", version, host.name): _LIES for version in _VERSIONS for host in HOSTS},
}
