# SPDX-License-Identifier: BSD-2-Clause
"""Plan -> diff -> apply -> undo.  Planning reads and is pure in its middle; apply.py is the only module that writes."""
