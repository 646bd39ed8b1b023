# SPDX-License-Identifier: MIT
"""What the assignments in ``notebooks/course`` import: checks of a student's functions, and pictures."""
