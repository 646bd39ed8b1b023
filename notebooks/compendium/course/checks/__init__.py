# SPDX-License-Identifier: MIT
"""The checks of the assignments, one module for each; a check takes a student's function and the seed of its inputs.

It returns nothing when the function is right, lets ``NotImplementedError`` pass, and raises ``trying.Wrong`` otherwise.
"""
