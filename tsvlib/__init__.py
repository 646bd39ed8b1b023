# SPDX-License-Identifier: MIT
"""Task Singular Vectors: merge and compress fine-tuned models, and measure their interference."""

__version__ = "0.1.0"
