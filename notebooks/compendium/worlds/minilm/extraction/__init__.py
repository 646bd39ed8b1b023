# SPDX-License-Identifier: MIT
"""How the shipped texts of the minilm world came out of pinned packages; nothing at run time needs this."""
