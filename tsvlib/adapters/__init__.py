# SPDX-License-Identifier: MIT
"""LoRA adapters in the layout of PEFT: what they change in a base, read without multiplying it out, and written.

``settings`` is the file ``adapter_config.json``, which says how the matrices count, or names a kind that is refused;
``naming`` knows what each tensor is for; ``reading`` opens adapters as checkpoints; ``thin`` has the mathematics of
matrices that are products of two thin ones; ``writing`` makes a folder that PEFT loads.
"""

from tsvlib.adapters.naming import Slot
from tsvlib.adapters.reading import Adapter, files_of, open_expert, tensors_of
from tsvlib.adapters.thin import Thin

__all__ = ["Adapter", "Slot", "Thin", "files_of", "open_expert", "tensors_of"]
