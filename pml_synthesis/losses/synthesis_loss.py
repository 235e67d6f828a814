"""The hook that joins a synthetic batch to the real one."""

from __future__ import annotations

from typing import Any

from pytorch_metric_learning.miners import BaseMiner
from torch import Tensor

from .._checks import expect
from .._graph_breaks import breaks_graph
from ..augmenters import BaseAugmenter
from ..pml import BaseMetricLossFunction, ModuleWithRecords
from .evaluation import evaluation_of
from .loss_inputs import LossInputs
from .proxy_bindings import find_binding, require_binding

# What a SynthesisLoss shows of the wrapped loss, and sets there.
_OF_THE_LOSS = (
    "distance",
    "embedding_reg_weight",
    "embedding_regularizer",
    "reducer",
    "weight_reg_weight",
    "weight_regularizer",
)


class SynthesisLoss(BaseMetricLossFunction):
    r"""Calls a PML loss, unchanged, on the real batch and the synthetic one together.

    .. math:: L(x \cup \tilde x, \; y \cup \tilde y; \; p \cup \tilde p)

    with :math:`(\tilde x, \tilde y, \tilde p)` made by the augmenter from :math:`(x, y, p)`. It is
    the plain loss L(x, y; p) in eval mode, without an augmenter, and if nothing is synthesised.

    The regularizers of the wrapped loss see only real embeddings and proxies. A synthetic embedding
    inherits the mined weight and the class weight of its source. If it has a weight of its own, a
    mean over embeddings is divided by the sum of the weights. With pair losses, each mined tuple is
    repeated with the synthetic embedding as anchor in the place of its source, unless a `miner`
    sees the joined batch.

    It has no distance, reducer or regularizer of its own and shows those of the wrapped loss, which
    is `.loss`: a checkpoint of the plain loss loads with `synthesis_loss.loss.load_state_dict`. The
    weight of the wrapped loss is never cast; PML itself casts it to the dtype of half embeddings.
    A call leaves the wrapped loss as it is, so that threads may have losses of their own.

    If the augmenter raises, its state stays as it was. If the wrapped loss raises after it, the
    augmenter has taken its whole step, as in a call that succeeds.

    Args:
        loss: any PML loss. An augmenter that needs proxies needs one whose proxies are known (all
            proxy losses of PML, and those taught by :func:`register_proxies`).
        augmenter: what makes the synthetic batch, or None for the plain loss.
        miner: a PML miner, or None. In training mode it is run on the real embeddings and the
            synthetic ones. For pair losses these are those of the role "all", and its distances are
            hardened by those of the role "negative"; see :class:`SyntheticBatch`.

    Raises:
        ValueError: if `loss` is no PML loss, `augmenter` no augmenter, `miner` no miner, or the
            proxies of the loss are needed and unknown.

    Default reducer and reducer input: those of the wrapped loss.

    Example:
        >>> import torch
        >>> from pytorch_metric_learning import losses
        >>> from pml_synthesis import ProxySynthesis
        >>> loss = SynthesisLoss(losses.ProxyNCALoss(3, 16), augmenter=ProxySynthesis())
        >>> loss(torch.randn(6, 16), torch.tensor([0, 0, 1, 1, 2, 2])).shape
        torch.Size([])
    """

    def __init__(
        self,
        loss: BaseMetricLossFunction,
        augmenter: BaseAugmenter | None,
        miner: BaseMiner | None = None,
    ) -> None:
        # Not BaseMetricLossFunction's: a wrapper has no distance, reducer and regularizer to set
        # up.
        ModuleWithRecords.__init__(self)
        is_loss = isinstance(loss, BaseMetricLossFunction) and not isinstance(loss, SynthesisLoss)
        plain = "a plain PML loss (wrap the losses inside a MultipleLosses; Compose augmenters)"
        expect(is_loss, "loss", plain, loss)
        is_augmenter = augmenter is None or isinstance(augmenter, BaseAugmenter)
        expect(is_augmenter, "augmenter", "an augmenter, or None", augmenter)
        is_miner = miner is None or isinstance(miner, BaseMiner)
        expect(is_miner, "miner", "a PML miner, or None", miner)
        if augmenter is not None and augmenter.requires_proxies:
            require_binding(loss, who=type(augmenter).__name__)
        binding = find_binding(loss)
        if binding is not None:
            binding.check(loss)
        self.loss = loss
        self.augmenter = augmenter
        self.miner = miner

    # Numbers are drawn on the host: torch.compile breaks its graph here.
    @breaks_graph
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: Any = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Any:
        """Return the loss.

        Args:
            embeddings: [B, D].
            labels: of any integer type, [B].
            indices_tuple: what a PML miner returns, also as a list, or None.
            ref_emb: for pair losses, as in PML.
            ref_labels: for pair losses, as in PML.

        Returns:
            A scalar, or what the reducer of the wrapped loss gives.

        Raises:
            ValueError: if `embeddings` is no tensor, `ref_emb` or `ref_labels` is given to a proxy
                loss, `indices_tuple` beside a `miner`, the augmenter is given a wrong argument, or
                it makes what the wrapped loss cannot honour (new classes without proxies, weights,
                a role).
            RuntimeError: in training mode during a backward pass, as by gradient checkpointing
                around the loss.
        """
        inputs = LossInputs.of(embeddings, labels, indices_tuple, ref_emb, ref_labels)
        evaluation = evaluation_of(self.loss, inputs, self.miner if self.training else None)
        if not self.training or self.augmenter is None:
            return evaluation.plain()
        inputs.check_tuple()
        # With the labels as they were given: those on the host need not be copied there again.
        batch = self.augmenter(embeddings, labels, evaluation.proxies)
        nothing = len(batch) == 0 and batch.num_new_classes == 0
        value = evaluation.plain() if nothing else evaluation.joined(batch)
        return value if batch.term is None else self._with_term(value, batch.term)

    def _with_term(self, value: Any, term: Tensor) -> Tensor:
        scalar = isinstance(value, Tensor) and value.numel() == 1
        fitting = "one that makes no term, since the reducer of the loss gives no scalar"
        expect(scalar, "augmenter", fitting, "a term")
        summed: Tensor = value + term.reshape(()).to(value)
        return summed

    def __getattr__(self, name: str) -> Any:
        """Look up the parts of the wrapped loss: its distance, reducer and regularizers."""
        if name in _OF_THE_LOSS:
            return getattr(self.loss, name)
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a part of the wrapped loss, or an attribute of this module."""
        if name in _OF_THE_LOSS:
            setattr(self.loss, name, value)
        else:
            super().__setattr__(name, value)

    def get_logits(self, embeddings: Tensor) -> Tensor:
        """Return the logits of the wrapped loss, those of the real classes.

        Args:
            embeddings: of any floating-point dtype, [B, D].

        Returns:
            [B, C].

        Raises:
            AttributeError: if the wrapped loss has none, as P2SGradLoss and pair losses.
        """
        evaluation = evaluation_of(self.loss, LossInputs.of(embeddings, None))
        logits: Tensor = evaluation.cast(lambda loss: loss.get_logits(embeddings))
        return logits

    def sub_loss_names(self) -> list[str]:
        """Return the names of the wrapped loss's sub-losses."""
        loss: Any = self.loss
        names: list[str] = loss.sub_loss_names()
        return names
