"""Two processes, each with half of every batch: train on 60 classes, retrieve 40 others.

torchrun --nproc_per_node=2 two_processes.py
"""

import torch
from pytorch_metric_learning import distances, losses
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper
from pytorch_metric_learning.utils.inference import CustomKNN
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from pml_synthesis import ProxySynthesis, SynthesisLoss

distributed.init_process_group("gloo")  # "nccl" on GPUs
rank, world_size = distributed.get_rank(), distributed.get_world_size()
torch.manual_seed(0)  # the same data and batches in each process

# A class is a place in 8 dimensions; 24 others say nothing of it, and all are mixed.
labels = torch.arange(100).repeat_interleave(20)
places = torch.randn(100, 8)[labels] + 0.4 * torch.randn(2000, 8)
inputs = torch.tanh(torch.cat([places, torch.randn(2000, 24)], dim=1) @ torch.randn(32, 64) / 4)
seen = labels < 60
train_inputs, train_labels = inputs[seen], labels[seen]

model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 32))
loss_function = losses.ProxyNCALoss(num_classes=60, embedding_size=32, softmax_scale=12)
loss_function = SynthesisLoss(loss_function, ProxySynthesis())
# All processes synthesise the same from the rows of all of them: PML's wrapper gathers these.
shared_model = DistributedDataParallel(model)
shared_loss = DistributedDataParallel(DistributedLossWrapper(loss_function))
optimizer = torch.optim.Adam(
    [
        {"params": model.parameters(), "lr": 1e-3},
        {"params": loss_function.parameters(), "lr": 1e-1},  # the proxies
    ]
)

for _ in range(20):
    for rows in torch.randperm(len(train_labels)).view(-1, 60):
        own = rows[rank::world_size]
        optimizer.zero_grad()
        shared_loss(shared_model(train_inputs[own]), train_labels[own]).backward()
        optimizer.step()

# The same in each process, as the model is; so none leaves while another still talks to it.
with torch.no_grad():
    embeddings = model(inputs[~seen])
calculator = AccuracyCalculator(
    include=("mean_average_precision_at_r",),
    k="max_bin_count",
    knn_func=CustomKNN(distances.CosineSimilarity()),
)
accuracy = calculator.get_accuracy(embeddings, labels[~seen])["mean_average_precision_at_r"]
if rank == 0:
    print(f"MAP@R of unseen classes: {accuracy:.3f}")
distributed.destroy_process_group()
