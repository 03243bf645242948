# SPDX-License-Identifier: BSD-2-Clause
"""python3 -m tests.lab HOST 'COMMAND': one command in a guest booted for it, with its outputs and its status."""

from __future__ import annotations

import argparse
import subprocess
import sys

from tests.lab import HOSTS, PROJECT, LabError, LabTimeout, boot, by_name


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab", description=__doc__)
    parser.add_argument("host", choices=[host.name for host in HOSTS])
    parser.add_argument("command", help="a command of bash; $ktlsctl in it is the project's executable there")
    parser.add_argument("--user", help="run it as this user instead of root")
    parser.add_argument("--append", default="", help="more kernel command line")
    parser.add_argument("--timeout", type=float, default=600, help="seconds (default: %(default)g)")
    arguments = parser.parse_args()
    host = by_name(arguments.host)
    # a moment when there is nothing to do
    if subprocess.run([PROJECT / "scripts" / "lab-setup", host.name], stdout=sys.stderr, check=False).returncode:
        return 2
    try:
        with boot(host, append=arguments.append) as guest:
            env = {}
            try:
                env["ktlsctl"] = guest.ktlsctl
            except LabError as error:
                print(f"lab: {error}", file=sys.stderr)
            result = guest.run(arguments.command, timeout=arguments.timeout, user=arguments.user, env=env)
            status, stdout, stderr = result.status, result.stdout, result.stderr
    except LabTimeout as error:
        print(f"lab: {error}", file=sys.stderr)
        status, stdout, stderr = 124, error.stdout, error.stderr
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 2
    for stream, data in ((sys.stdout, stdout), (sys.stderr, stderr)):
        stream.buffer.write(data)
        stream.flush()
    return status


if __name__ == "__main__":
    sys.exit(main())
