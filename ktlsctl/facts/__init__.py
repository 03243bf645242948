# SPDX-License-Identifier: BSD-2-Clause
"""What the machine says, one subject a module: a frozen fact, a pure parser, a reader through the host door."""
