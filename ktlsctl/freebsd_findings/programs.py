# SPDX-License-Identifier: BSD-2-Clause
"""Programs that kernel TLS is known to hurt, or that cannot run without it."""

from __future__ import annotations

from ktlsctl.facts import ktlsgauges, rcconf
from ktlsctl.freebsd_findings.remedies import setting
from ktlsctl.freebsd_findings.situation import MB_USE_EXT_PGS, Seen
from ktlsctl.model import Check, Direction, Evidence, Link, Outcome, Remedy, Status

_LIGHTTPD_OFF = 'ssl.openssl.ssl-conf-cmd += ("Options" => "-KTLS")'


def lighttpd(seen: Seen) -> Check:
    """freebsd.program.lighttpd: large bodies over HTTP/1.1 arrive damaged, same length, as reported for 14.0 and 15."""
    identity, link = "freebsd.program.lighttpd", Link.CONFIGURATION
    server = seen.facts.lighttpd
    if server is None:
        return Check(identity, link, Status.SKIP, "lighttpd is not installed", "its program is not there")
    evidence: Evidence = {"lighttpd": f"{server.release} {server.path}", "-KTLS": server.kept_out}
    if not server.asks_unasked:
        return Check(
            identity, link, Status.OK, f"lighttpd {server.release} does not ask for kernel TLS", evidence=evidence
        )
    if server.kept_out:
        return Check(
            identity, link, Status.OK, "lighttpd is told to leave kernel TLS alone", "its configuration says -KTLS",
            evidence,
        )  # fmt: skip
    if not seen.taken(Direction.TX):
        why = "it looks at kern.ipc.tls.enable when it starts; the kernel takes no session to send"
        return Check(identity, link, Status.OK, "lighttpd gets no kernel TLS to send with", why, evidence)
    if server.unread:
        return Check(
            identity, link, Status.UNKNOWN, "lighttpd's configuration could not be read", "; ".join(server.unread),
            evidence, (Remedy("run the check as root"),),
        )  # fmt: skip
    return Check(
        identity,
        link,
        Status.WARNING,
        f"lighttpd {server.release} uses kernel TLS and may send damaged files",
        "on FreeBSD 14.0 and 15 bodies over 64 KiB were sent with bytes repeated after a short sendfile (HTTP/1.1, the "
        "length is right, ssl_err:5 errno:35 in its log); compare such a file with the one on disk. lighttpd asks by "
        f"itself when {ktlsgauges.ENABLE} is 1 as it starts",
        evidence,
        (
            Remedy(f"keep kernel TLS out of lighttpd: {_LIGHTTPD_OFF}, then restart it", "service lighttpd restart"),
            Remedy("or switch kernel TLS off for the whole system", f"sysctl {ktlsgauges.ENABLE}=0"),
        ),
    )


def nfs(seen: Seen) -> Check:
    """freebsd.program.nfs_tls: rpc.tlsservd(8) and rpc.tlsclntd(8) end at once without kernel TLS."""
    identity, link = "freebsd.program.nfs_tls", Link.CONFIGURATION
    files = seen.facts.rc_conf
    wanted = tuple(name for name, variable in rcconf.NFS_DAEMONS.items() if rcconf.is_on(files, variable))
    if not wanted:
        hidden = [f for f in files if f.settings.outcome not in (Outcome.RAN, Outcome.ABSENT)]
        if hidden:
            why = "; ".join(f"{f.path}: {f.settings.reason}" for f in hidden)
            return Check(identity, link, Status.UNKNOWN, "whether NFS over TLS is wanted could not be read", why)
        return Check(
            identity, link, Status.SKIP, "NFS over TLS is not switched on", "rc.conf starts none of its daemons"
        )
    names = " and ".join(wanted)
    evidence: Evidence = {"rc.conf": wanted}
    if not seen.facts.sysctls.present:
        return Check(
            identity, link, Status.UNKNOWN, f"whether {names} can run is not known", seen.facts.sysctls.reason, evidence
        )
    for name in (ktlsgauges.ENABLE, MB_USE_EXT_PGS):
        if seen.flag(name) is not True:
            return Check(
                identity,
                link,
                Status.WARNING,
                f"{names} cannot run: {name} is {'off' if seen.node else 'missing'}",
                "the daemon ends at once with 'Kernel TLS not enabled'",
                evidence,
                setting(name, "1", seen) if seen.node else (),
            )
    notes = ""
    if not seen.is_14_or_later:
        notes = "FreeBSD 13 does not receive TLS 1.3 in the kernel: the daemons need TLS 1.2 (option -2)"
    return Check(identity, link, Status.OK, f"{names} has the kernel TLS that it needs", notes, evidence)
