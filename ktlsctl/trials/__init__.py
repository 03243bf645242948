# SPDX-License-Identifier: BSD-2-Clause
"""The self-test's scenarios as they are run, in the child, against the library under test: one module each.

ground.py is what they stand on, run.py what the child calls.  A module's `run(ground)` gives the facts whose type and
judgement are in the module of scenarios/ that has the same name.
"""
