"""Makes the pictures of docs/visualize.md: python docs/pictures/make_visualize.py [folder]."""

import sys
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from pytorch_metric_learning import losses
from sklearn.datasets import load_digits

from pml_synthesis import ProxySynthesis, SphericalEmbeddingExpansion, SynthesisLoss
from pml_synthesis.losses import proxies_of
from pml_synthesis.visualize import plot_cosines, plot_synthesis, proxy_cosines

CLASSES = 5
NAMES = ("zero", "one", "two", "three", "four")


def train(images, labels, dim, epochs):
    """Return embeddings and proxies after training on the images."""
    torch.manual_seed(2)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, dim)
    )
    loss = SynthesisLoss(losses.ProxyNCALoss(CLASSES, dim, softmax_scale=6), ProxySynthesis())
    rates = {model: 1e-3, loss: 1e-1}
    groups = [{"params": part.parameters(), "lr": rate} for part, rate in rates.items()]
    optimizer = torch.optim.Adam(groups)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(64):
            optimizer.zero_grad()
            loss(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    return model(images), proxies_of(loss)


def main(folder):
    """Make all pictures."""
    digits = load_digits(n_class=CLASSES)
    images, labels = torch.tensor(digits.data).float() / 16, torch.tensor(digits.target)
    few = torch.cat([torch.where(labels == label)[0][:8] for label in range(CLASSES)])

    embeddings, proxies = train(images, labels, dim=3, epochs=4)
    panels = {
        "SEE": SphericalEmbeddingExpansion(num_expansions=2, seed=0),
        "Proxy Synthesis": ProxySynthesis(alpha=2.0, seed=0),
    }
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for ax, (name, augmenter) in zip(axes, panels.items(), strict=True):
        batch = embeddings[few], labels[few], proxies
        plot_synthesis(*batch, augmenter, class_names=NAMES, ax=ax).set_title(name)
    axes[0].get_legend().remove()
    figure.savefig(folder / "synthesis.png", dpi=100)

    figure, axes = plt.subplots(2, 1, figsize=(7, 4.4), sharex=True, layout="constrained")
    for ax, epochs in zip(axes, (0, 10), strict=True):
        embeddings, proxies = train(images, labels, dim=32, epochs=epochs)
        plot_cosines(*proxy_cosines(embeddings, labels, proxies), ax=ax)
        ax.set_title("after training" if epochs else "before training")
    axes[0].set_xlabel("")
    figure.savefig(folder / "cosines.png", dpi=100)

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for ax, projection in zip(axes, ("pca", "tsne"), strict=True):
        batch, augmenter = (embeddings[few], labels[few], proxies), panels["Proxy Synthesis"]
        plot_synthesis(*batch, augmenter, projection=projection, class_names=NAMES, ax=ax)
    axes[0].get_legend().remove()
    figure.savefig(folder / "projections.png", dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
