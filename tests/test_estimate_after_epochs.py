"""The hook of PML's trainers that lets augmenters learn from the whole training set."""

import pytest
import torch
from pytorch_metric_learning import losses, trainers
from torch.utils.data import TensorDataset

from pml_synthesis import (
    Compose,
    EstimateAfterEpochs,
    IntraclassAdaptiveAugmentation,
    SymmetricalSynthesis,
    SynthesisLoss,
    SynthesisRegularizer,
)

NUM_CLASSES, DIM = 4, 6


def points(seed=0, size=22):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(size) % NUM_CLASSES
    return TensorDataset(torch.randn(size, 10, generator=generator) + labels[:, None], labels)


def iaa(**options):
    return IntraclassAdaptiveAugmentation(NUM_CLASSES, DIM, seed=0, **options)


def trainer_of(loss, hook, dataset=None, **options):
    trunk = torch.nn.Sequential(torch.nn.Linear(10, 8), torch.nn.BatchNorm1d(8))
    embedder = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(8, DIM))
    models = {"trunk": trunk, "embedder": embedder}
    parameters = [*trunk.parameters(), *embedder.parameters()]
    return trainers.MetricLossOnly(
        models=models,
        optimizers={"trunk_optimizer": torch.optim.SGD(parameters, lr=0.01)},
        batch_size=8,
        loss_funcs={"metric_loss": loss},
        dataset=dataset or points(),
        dataloader_num_workers=0,
        data_device="cpu",
        end_of_epoch_hook=hook,
        **options,
    )


def expected_variances(trainer, dataset, labels=None):
    """The variances of the raw embeddings in eval mode."""
    trunk, embedder = (trainer.models[name].eval() for name in ("trunk", "embedder"))
    with torch.no_grad():
        x = embedder(trunk(dataset.tensors[0]))
    y = dataset.tensors[1] if labels is None else labels
    return torch.stack([x[y == label].var(dim=0, unbiased=False) for label in range(NUM_CLASSES)])


@pytest.mark.parametrize("own", [False, True])
def test_raw_embeddings_in_eval_mode_are_estimated(own):
    augmenter, dataset = iaa(), points(5, size=30) if own else None
    loss = SynthesisLoss(losses.MultiSimilarityLoss(), augmenter)
    trainer = trainer_of(loss, EstimateAfterEpochs(dataset))
    trainer.train(num_epochs=1)
    assert all(model.training for model in trainer.models.values()) and loss.training
    expected = expected_variances(trainer, dataset or trainer.dataset)
    torch.testing.assert_close(augmenter.variance, expected)
    assert sum(augmenter.num_seen) == len(dataset or trainer.dataset)


@pytest.mark.parametrize(
    "every, start, epochs", [(2, 1, [1, 3, 5]), (1, 4, [4, 5, 6]), (3, 2, [2, 5])]
)
def test_after_which_epochs(every, start, epochs):
    augmenter, seen = iaa(), []

    def record(trainer):
        seen.append(sum(augmenter.num_seen) // 22)

    loss = SynthesisLoss(losses.MultiSimilarityLoss(), augmenter)
    trainer_of(loss, EstimateAfterEpochs(None, every, start, hook=record)).train(num_epochs=6)
    assert seen == [sum(epoch <= now for epoch in epochs) for now in range(1, 7)]


def test_copies_are_made_from_the_epoch_after():
    augmenter, made = iaa(collect_stats=True), []
    loss = SynthesisLoss(losses.ContrastiveLoss(), augmenter)

    def record(trainer):
        made.append(augmenter.num_rows)

    hook = EstimateAfterEpochs(start=2)
    trainer_of(loss, hook, end_of_iteration_hook=record).train(num_epochs=3)
    assert made == [0, 0, 0, 0, 24, 24]


def test_another_hook_decides_whether_it_goes_on():
    loss = SynthesisLoss(losses.ContrastiveLoss(), iaa())
    trainer = trainer_of(loss, EstimateAfterEpochs(hook=lambda trainer: trainer.epoch < 2))
    trainer.train(num_epochs=5)
    assert trainer.epoch == 2


def test_augmenters_anywhere_in_the_loss_are_found():
    parts = [iaa(), iaa(), iaa(running=True, num_neighbors=0)]
    loss = SynthesisLoss(
        losses.ContrastiveLoss(embedding_regularizer=SynthesisRegularizer(parts[0])),
        Compose([parts[1], SymmetricalSynthesis(), parts[2]]),
    )
    trainer = trainer_of(loss, EstimateAfterEpochs())
    trainer.train(num_epochs=1)
    assert torch.equal(parts[0].variance, parts[1].variance)
    # Those that count batches have been given four of them.
    assert [sum(part.num_seen) for part in parts] == [22, 22, 16]


def test_labels_are_numbered_as_for_the_loss():
    dataset = points()
    moved = TensorDataset(dataset.tensors[0], 10 + 3 * dataset.tensors[1])
    options = {"set_min_label_to_zero": True, "dataset_labels": moved.tensors[1].numpy()}
    options["data_and_label_getter"] = lambda batch: (batch[0], batch[1].numpy())
    augmenter = iaa()
    loss = SynthesisLoss(losses.ContrastiveLoss(), augmenter)
    trainer = trainer_of(loss, EstimateAfterEpochs(), moved, **options)
    trainer.train(num_epochs=1)
    expected = expected_variances(trainer, moved, dataset.tensors[1])
    torch.testing.assert_close(augmenter.variance, expected)


@pytest.mark.parametrize(
    "name, value", [("every", 0), ("every", 1.5), ("start", 0), ("start", True), ("hook", 3)]
)
def test_wrong_arguments(name, value):
    with pytest.raises(ValueError, match=f"`{name}` to be a"):
        EstimateAfterEpochs(**{name: value})


def test_nobody_to_estimate_for():
    trainer = trainer_of(losses.ContrastiveLoss(), EstimateAfterEpochs())
    with pytest.raises(ValueError, match="`loss_funcs` to be losses with an augmenter"):
        trainer.train(num_epochs=1)
