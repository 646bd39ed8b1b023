# SPDX-License-Identifier: MIT
"""Where tasks, splits, backbones, experts and heads come from."""
