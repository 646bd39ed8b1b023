# SPDX-License-Identifier: MIT
"""Ways to merge, one family per file."""
