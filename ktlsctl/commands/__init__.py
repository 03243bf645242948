# SPDX-License-Identifier: BSD-2-Clause
"""One file a command, or a few that share their code: parse, call, render, exit status.

No judgement here, and everything heavy is imported inside the command that needs it: help starts fast.
"""
