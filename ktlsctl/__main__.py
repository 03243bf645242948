# SPDX-License-Identifier: BSD-2-Clause
"""`python -m ktlsctl`."""

from ktlsctl.cli import main

if __name__ == "__main__":
    main()
