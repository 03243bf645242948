# SPDX-License-Identifier: BSD-2-Clause
"""What the self-test's scenarios mean: one module each with the type of its facts and a pure judgement over them.

catalogue.py lists them, judgement.py has the words all share; the facts are gathered in trials/, module for module.
"""
