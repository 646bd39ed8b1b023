# SPDX-License-Identifier: MIT
"""Checkpoints that others have published: where each source keeps them, how they are read, checked and fetched.

``registered`` names the four sources, ``protocol`` says what each answers. ``openclip`` reads three of them and
``fusionbench`` one; ``backbones`` knows which tensors there must be. ``fetching`` downloads from the hub, and
``origins`` records what was read, by SHA-256 that ``digests`` keeps.
"""
