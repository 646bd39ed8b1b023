# SPDX-License-Identifier: MIT
"""How fast, how exact and how small: this library beside a literal transcription of the published algorithm."""
