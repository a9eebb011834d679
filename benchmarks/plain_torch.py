"""The network and its training step, written plainly in PyTorch: the baseline.

Float32 or bfloat16 autocast, contiguous tensors, torch.optim.SGD, on a GPU that CUDA
finds or on the CPU; nothing is tuned, and nothing is left out that fhn_jax computes.
"""

from collections.abc import Callable, Mapping

import numpy as np

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'the baseline needs PyTorch: pip install "fhn_jax[bench]"'
    ) from error

BITS = 128
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CATEGORIES = 3
SCORE_SCALE = 10.0
MARGIN, VSE_WEIGHT, BINARY_SHARE = 0.1, 0.1, 0.5


class AlexNet(nn.Module):
    """Fully convolutional; the mean over positions is the feature vector."""

    num_features = 4096

    def __init__(self):
        super().__init__()

        def convolution(inputs, outputs, kernel, stride=1, padding=0):
            return [nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.ReLU()]

        self.layers = nn.Sequential(
            *convolution(3, 64, 11, 4, 2),
            nn.MaxPool2d(3, 2),
            *convolution(64, 192, 5, 1, 2),
            nn.MaxPool2d(3, 2),
            *convolution(192, 384, 3, 1, 1),
            *convolution(384, 256, 3, 1, 1),
            *convolution(256, 256, 3, 1, 1),
            nn.MaxPool2d(3, 2),
            *convolution(256, 4096, 6),
            *convolution(4096, 4096, 1),
        )

    def forward(self, images):
        return self.layers(images).mean(dim=(2, 3))


class Network(nn.Module):
    """Encoders of images, text and users, and the matching weights."""

    def __init__(self, modalities, text_dim, users):
        super().__init__()
        self.modalities = modalities
        self.heads = nn.ModuleDict()
        if "visual" in modalities:
            self.backbone = AlexNet()
            width = self.backbone.num_features
            self.heads["visual"] = nn.ModuleList(
                nn.Sequential(
                    nn.Dropout(0.5),
                    nn.Linear(width, width // 2),
                    nn.ReLU(),
                    nn.Dropout(0.5),
                    nn.Linear(width // 2, BITS, bias=False),
                )
                for _ in range(CATEGORIES)
            )
        if "text" in modalities:
            self.heads["text"] = nn.ModuleList(
                nn.Sequential(
                    nn.Linear(text_dim, 1024),
                    nn.ReLU(),
                    nn.Dropout(0.5),
                    nn.Linear(1024, BITS, bias=False),
                )
                for _ in range(CATEGORIES)
            )
        self.user = nn.Embedding(users, BITS)
        self.matching = nn.ParameterList([torch.ones(BITS), torch.ones(BITS)])

    def forward(self, inputs):
        """Modality → latents [category, items of it, bits]."""
        found = {}
        for modality in self.modalities:
            x = inputs[modality]
            if modality == "visual":
                x = self.backbone(x)
            parts = x.chunk(CATEGORIES)
            found[modality] = torch.stack(
                [
                    head(part)
                    for head, part in zip(self.heads[modality], parts, strict=True)
                ]
            )
        return found

    def score(self, users, items):
        """[b, c] from user codes [b, 1, bits] and item codes [category, b, c, bits]."""
        user_weights, item_weights = self.matching
        user_term = (users * user_weights * items.sum(0)).mean(-1) / CATEGORIES
        top, bottom, shoe = items
        products = top * bottom + top * shoe + bottom * shoe
        item_term = (products * item_weights).mean(-1) / 3
        return SCORE_SCALE * (user_term + item_term)


def sign(z):
    """±1 with the gradient of the clipped identity."""
    clipped = z.clamp(-1, 1)
    return clipped + (torch.where(z >= 0, 1.0, -1.0) - clipped).detach()


def vse_loss(visual, text):
    """An item's image and text match each other best."""
    n, bits = visual.shape
    similarity = visual @ text.T / bits
    matched = similarity.diagonal()[:, None]
    hinge = F.relu(MARGIN - matched + similarity)
    hinge = hinge + F.relu(MARGIN - matched + similarity.T)
    return ((hinge.sum(1) - 2 * MARGIN) / (n - 1)).mean()


def loss_of(network, users, latents):
    """The loss of a batch.

    Args:
      users: [b].
      latents: from `Network.forward`, of a positive and a negative a user.
    """
    latents = {name: z.float() for name, z in latents.items()}
    z_user = network.user(users)[:, None, :]
    relaxed = binary = 0.0
    for z in latents.values():
        z = z.reshape(CATEGORIES, len(users), 2, BITS)
        relaxed = relaxed + network.score(z_user.clamp(-1, 1), z.clamp(-1, 1))
        binary = binary + network.score(sign(z_user), sign(z))
    rank, binary_rank = (
        F.softplus((s[:, 1] - s[:, 0]) / len(latents)).mean() for s in (relaxed, binary)
    )
    loss = (1 - BINARY_SHARE) * rank + BINARY_SHARE * binary_rank
    if len(latents) == 2:
        visual, text = (
            latents[m].reshape(-1, BITS).clamp(-1, 1) for m in ("visual", "text")
        )
        loss = loss + VSE_WEIGHT * vse_loss(visual, text)
    return loss


def make_step(
    inputs: Mapping[str, np.ndarray],
    batch: int,
    backbone: str,
    users: int,
    dtype: str,
) -> Callable[[], float]:
    """A function that takes a training step on a batch and returns the loss.

    Args:
      inputs: modality → uint8 images [n, h, w, 3], float32 text vectors [n, t].
      batch: positives; each has one negative.
      backbone: "alexnet".
      users: number of users.
      dtype: "float32" or "bfloat16".
    Raises:
      ValueError: another backbone.
    """
    if "visual" in inputs and backbone != "alexnet":
        raise ValueError(f"the baseline has alexnet only, got --backbone {backbone}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    text_dim = inputs["text"].shape[1] if "text" in inputs else 0
    network = Network(tuple(inputs), text_dim, users).to(device)
    rates = {"user": 10.0, "backbone": 0.001, "matching": 0.1}
    groups = [
        {"params": part.parameters(), "lr": rates.get(name, 0.01)}
        for name, part in network.named_children()
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=1e-6)
    given = {name: torch.from_numpy(array).to(device) for name, array in inputs.items()}
    who = torch.arange(batch, device=device) % users
    mean, std = (
        torch.tensor(v, device=device).reshape(1, 3, 1, 1) for v in (MEAN, STD)
    )

    def prepared():
        ready = dict(given)
        if "visual" in ready:
            images = ready["visual"].permute(0, 3, 1, 2).float() / 255
            flip = torch.rand(len(images), 1, 1, 1, device=device) < 0.5
            images = torch.where(flip, images.flip(3), images)
            ready["visual"] = (images - mean) / std
        return ready

    def step():
        bfloat16 = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")
        with bfloat16:
            latents = network(prepared())
        loss = loss_of(network, who, latents)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
