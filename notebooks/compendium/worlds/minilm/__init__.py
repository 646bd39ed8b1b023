# SPDX-License-Identifier: MIT
"""The minilm world: a real pretrained sentence encoder, and tasks of real texts that packages ship."""
