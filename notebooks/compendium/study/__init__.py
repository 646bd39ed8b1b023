# SPDX-License-Identifier: MIT
"""Experiments as rows of tidy tables."""
