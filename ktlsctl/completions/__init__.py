# SPDX-License-Identifier: BSD-2-Clause
"""Ready-made shell completion files (data only)."""
