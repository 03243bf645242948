# SPDX-License-Identifier: BSD-2-Clause
"""What the facts of a Linux host mean: pure judgement, one part of the chain a module, put together by linux.py."""
