"""Several processes that train one pair, as torchrun starts them: all that depends on which of them this is.

Each of them runs the same training on its part of each batch. What they compute is added up by `torch.distributed` in
one exchange a step, which every process gets the same bits of, so that all take the same step. The first one writes the
run; the others write nothing.
"""

from ppl_vae.training.distributed.following import Following, follow
from ppl_vae.training.distributed.launched import helpers, joined, world
from ppl_vae.training.distributed.world import World

__all__ = ["Following", "World", "follow", "helpers", "joined", "world"]
