# SPDX-License-Identifier: BSD-2-Clause
"""What a FreeBSD host's facts mean: one module per link of the chain, all pure."""
