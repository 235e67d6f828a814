"""The hook that joins synthetic batches to real ones, and where PML's losses keep proxies."""

from .proxy_bindings import proxies_of, register_proxies
from .synthesis_loss import SynthesisLoss

__all__ = ["SynthesisLoss", "proxies_of", "register_proxies"]
