"""A plain PyTorch loop with pytorch-metric-learning: train on 60 classes, retrieve 40 others."""

import torch
from pytorch_metric_learning import distances, losses
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

torch.manual_seed(0)

# A class is a place in 8 dimensions; 24 others say nothing of it, and all are mixed.
labels = torch.arange(100).repeat_interleave(20)
places = torch.randn(100, 8)[labels] + 0.4 * torch.randn(2000, 8)
inputs = torch.tanh(torch.cat([places, torch.randn(2000, 24)], dim=1) @ torch.randn(32, 64) / 4)
seen = labels < 60
train_inputs, train_labels = inputs[seen], labels[seen]

model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 32))
loss_function = losses.ProxyNCALoss(num_classes=60, embedding_size=32, softmax_scale=12)
optimizer = torch.optim.Adam(
    [
        {"params": model.parameters(), "lr": 1e-3},
        {"params": loss_function.parameters(), "lr": 1e-1},  # the proxies
    ]
)

for _ in range(20):
    for rows in torch.randperm(len(train_labels)).split(64):
        optimizer.zero_grad()
        loss_function(model(train_inputs[rows]), train_labels[rows]).backward()
        optimizer.step()

with torch.no_grad():
    embeddings = model(inputs[~seen])
calculator = AccuracyCalculator(
    include=("mean_average_precision_at_r",),
    k="max_bin_count",
    knn_func=CustomKNN(distances.CosineSimilarity()),
)
accuracy = calculator.get_accuracy(embeddings, labels[~seen])["mean_average_precision_at_r"]
print(f"MAP@R of unseen classes: {accuracy:.3f}")
