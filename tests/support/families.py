"""Every family of q(z|x) over real vectors, small; in evaluation mode, in which each row stands for itself."""

from collections.abc import Callable

from support.small import built, rows
from torch import nn

from ppl_vae.blocks import space_of
from ppl_vae.core.palette import PARTS

FAMILIES: dict[str, Callable[[int], nn.Module]] = {
    name: lambda dim, name=name: built("family", name, dim=dim).eval()
    for name in rows("family")
    if space_of(PARTS["family"][name]) == "real"
}
