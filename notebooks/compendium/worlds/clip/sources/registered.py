# SPDX-License-Identifier: MIT
"""The four sources of checkpoints by the names that ``data/clip/local.toml`` calls them."""

from collections.abc import Mapping

from compendium.worlds.clip.sources import fusionbench, openclip
from compendium.worlds.clip.sources.protocol import Source

SOURCES: Mapping[str, Source] = {
    source.name: source
    for source in (openclip.TALL_MASKS, openclip.TSV, fusionbench.FusionBench(), openclip.TASK_ARITHMETIC)
}
