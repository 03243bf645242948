# SPDX-License-Identifier: BSD-2-Clause
"""One report in, text out.  Nothing here judges, and nothing here asks the machine."""
