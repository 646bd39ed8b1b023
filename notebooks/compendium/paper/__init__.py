# SPDX-License-Identifier: MIT
"""From rows to figures, printed tables, claims and the page of all of them."""
