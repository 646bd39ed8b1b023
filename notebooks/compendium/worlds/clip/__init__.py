# SPDX-License-Identifier: MIT
"""The paper's own scale: CLIP ViT-B/32, B/16 and L/14, its twenty data sets, checkpoints that others have published."""
