# SPDX-License-Identifier: MIT
"""What the notebooks import: worlds to measure in, studies, and the paper that is made of their rows."""
