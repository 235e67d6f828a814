"""PML's trainer, tester and record-keeper: train on 60 classes, look at 40 others by the epoch.

Needs what PML's hooks need: pip install "pytorch-metric-learning[with-hooks-cpu]"
"""

import torch
from pytorch_metric_learning import losses, samplers, testers, trainers
from pytorch_metric_learning.utils import logging_presets
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from torch.utils.data import TensorDataset

from pml_synthesis import SphericalEmbeddingExpansion, SynthesisRegularizer
from pml_synthesis.schedules import CosineSchedule

EPOCHS, STEPS = 8, 40
torch.manual_seed(0)

# A class is a place in 8 dimensions; 24 others say nothing of it, and all are mixed.
labels = torch.arange(100).repeat_interleave(20)
places = torch.randn(100, 8)[labels] + 0.4 * torch.randn(2000, 8)
inputs = torch.tanh(torch.cat([places, torch.randn(2000, 24)], dim=1) @ torch.randn(32, 64) / 4)
seen = labels < 60
train = TensorDataset(inputs[seen], labels[seen])
unseen = TensorDataset(inputs[~seen], labels[~seen])

models = {
    "trunk": torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU()),
    "embedder": torch.nn.Linear(128, 32),
}
# The fraction that is expanded grows from nothing, as in the paper.
see = SphericalEmbeddingExpansion(fraction=CosineSchedule(0.0, 0.4, num_steps=EPOCHS * STEPS))
metric_loss = losses.ProxyAnchorLoss(
    num_classes=60,
    embedding_size=32,
    embedding_regularizer=SynthesisRegularizer(see),
    embedding_reg_weight=0.2,
)
parts = models | {"metric_loss": metric_loss}
rates = {"trunk": 1e-3, "embedder": 1e-3, "metric_loss": 1e-1}  # that of the proxies is higher
optimizers = {
    f"{name}_optimizer": torch.optim.AdamW(part.parameters(), lr=rates[name])
    for name, part in parts.items()
}

# The unseen classes choose the epoch that is kept as the best; a fair test needs yet others.
record_keeper, _, _ = logging_presets.get_record_keeper("example_logs")
hooks = logging_presets.get_hook_container(
    record_keeper, primary_metric="mean_average_precision_at_r", validation_split_name="unseen"
)
tester = testers.GlobalEmbeddingSpaceTester(
    dataloader_num_workers=0,
    accuracy_calculator=AccuracyCalculator(
        include=("mean_average_precision_at_r",), k="max_bin_count"
    ),
    end_of_testing_hook=hooks.end_of_testing_hook,
)
trainer = trainers.MetricLossOnly(
    models=models,
    optimizers=optimizers,
    batch_size=64,
    loss_funcs={"metric_loss": metric_loss},
    dataset=train,
    sampler=samplers.MPerClassSampler(labels[seen], m=4, length_before_new_iter=64 * STEPS),
    iterations_per_epoch=STEPS,
    dataloader_num_workers=0,
    end_of_iteration_hook=hooks.end_of_iteration_hook,
    end_of_epoch_hook=hooks.end_of_epoch_hook(tester, {"unseen": unseen}, "example_models"),
)
trainer.train(num_epochs=EPOCHS)

history = hooks.get_accuracy_history(tester, "unseen")
print(f"MAP@R of unseen classes: {history['mean_average_precision_at_r_level0'][-1]:.3f}")
