# SPDX-License-Identifier: MIT
"""The command line, and what it does from checkpoints on disk to files on disk."""
