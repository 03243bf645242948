# SPDX-License-Identifier: BSD-2-Clause
"""ktlsctl diagnoses and configures kernel TLS on Linux and FreeBSD."""

__version__ = "0.1.0"
