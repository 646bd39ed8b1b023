# SPDX-License-Identifier: MIT
"""The mini world: three small CLIPs, and twenty image-classification tasks that packages and code here can draw."""
