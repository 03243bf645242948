# SPDX-License-Identifier: BSD-2-Clause
"""capture: freeze what this host says."""

from __future__ import annotations

import click

from ktlsctl.commands.options import debug_option, library_option, load_option
from ktlsctl.commands.output import ExitStatus, deliver
from ktlsctl.commands.reports import live_host


@click.command(short_help="Freeze what this host says, for 'check --from' to judge.")
@click.argument("file", default="-")
@library_option
@load_option
@debug_option
def capture(file: str, libssl: tuple[str, ...], load: bool) -> int:
    """Freeze what this host says in FILE (default: stdout), for someone else to judge with 'check --from FILE'.

    It holds the kernel's release and the answers that 'check' is made of: kernel configuration lines, module state and
    blocking lines of modprobe.d, kTLS settings and counters, which ciphers the kernel took, network interface names
    and their offload flags, the TLS libraries found and what they did. It holds no keys, no host name, no addresses and
    no file that check does not read. Read it before you send it: it is plain JSON.
    """
    import json
    from datetime import UTC, datetime

    from ktlsctl import probe
    from ktlsctl.host import RecordingHost

    host = RecordingHost(live_host(), libssl)
    probe.check(host, probe.Options(libssl=libssl, load=load))
    document = host.document(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    deliver(json.dumps(document, indent=1) + "\n", None if file == "-" else file)
    return ExitStatus.OK
